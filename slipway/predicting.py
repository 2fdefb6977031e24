"""Predictions for the rows of a frame, over HTTP."""

from typing import TYPE_CHECKING

from contract.errors import UserError
from slipway.frames import answers_frame, columns_of

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 500  # of one request


def predict(
    name: str, frame: "pd.DataFrame", version: int | None, most: int = MOST_ROWS
) -> "pd.DataFrame":
    """Return the answers to a frame's rows; see `Pipeline.predict`.

    Args:
        name: The pipeline's name.
        frame: The rows.
        version: Which one answers; None: by the traffic plan.
        most: Rows of one request.
    """
    from cli.commands.operating import heads_of
    from cli.requests import data_plane
    from cli.requests.table_rows import rows_to_send
    from cli.runs.standing import champion_of
    from cli.stack.stack_file import artifact_root, require_stack
    from contract.layout import PipelineLayout
    from contract.records.package import PackageManifest

    stack, layout = require_stack(), PipelineLayout(artifact_root(), name)
    number = version or champion_of(layout)
    layout.check_kept(number)
    manifest = PackageManifest.read(layout.package_manifest(number))
    rows = rows_to_send(columns_of(frame), manifest.inputs, list(frame.index))
    named, versions = [], set()
    for first in range(0, len(rows), most):
        part = rows[first : first + most]
        try:
            answer = data_plane.predict(stack, name, part, version)
        except UserError as error:
            if len(rows) <= most:
                raise
            raise type(error)(f"rows {first + 1} to {first + len(part)}: {error}") from error
        heads = heads_of(name, answer.version)
        named += [data_plane.named(prediction, heads) for prediction in answer.predictions]
        versions.add(answer.version)
    answers = answers_frame(named, frame.index)
    answers.attrs["versions"] = sorted(versions)
    return answers
