"""Commands for newly labelled rows: labels add."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.help_texts import PlainCommand, PlainGroup
from cli.options import JsonOption, NameArgument
from cli.output import print_json, say
from contract.errors import SlipwayError

if TYPE_CHECKING:
    from components.data.labels import AddedLabels

SHOWN_BAD_ROWS = 10

app = typer.Typer(
    cls=PlainGroup,
    help="Add newly labelled rows, which start a run that reads them too.",
    no_args_is_help=True,
)


@app.callback()
def labels() -> None:
    """Add newly labelled rows, which start a run that reads them too."""


@app.command(cls=PlainCommand)
def add(
    name: NameArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with the pipeline's columns and labels.")
    ],
    is_json: JsonOption = False,
) -> None:
    """Check labelled rows, store the new ones, and announce them: Airflow then starts a run.

    [bold]Examples[/]

    [cyan]$ slipway labels add census answers.csv[/]
    """
    from cli.stack.stack_file import artifact_root
    from components.data.labels import add_delta
    from contract.layout import PipelineLayout
    from contract.loader import load_pipeline
    from contract.pipelines import find_pipeline

    config = load_pipeline(find_pipeline(name))
    added = add_delta(PipelineLayout(artifact_root(), name), config, file)
    failure: SlipwayError | None = None
    try:
        announcement = _announce(name, added) if added.delta else "nothing new to announce"
    except SlipwayError as error:
        failure, announcement = error, "stored, not announced: the next run reads them"
    if is_json:
        print_json(
            {
                "delta": added.delta,
                "added": added.added,
                "corrected": added.corrected,
                "duplicates": added.duplicates,
                "bad": [{"row": b.row, "reason": b.reason} for b in added.bad],
                "announcement": announcement,
            }
        )
    else:
        _show(added, announcement)
    if failure is not None:
        raise failure


def _show(added: "AddedLabels", announcement: str) -> None:
    say(
        f"{added.added:,} new rows, {added.corrected:,} corrected, {added.duplicates:,} known "
        f"already, {len(added.bad):,} refused; {announcement}"
    )
    for bad in added.bad[:SHOWN_BAD_ROWS]:
        say(f"  row {bad.row}: {escape(bad.reason)} {escape(bad.found)}")


def _announce(name: str, added: "AddedLabels") -> str:
    """Post the asset event if Airflow runs, and say what that did."""
    from cli.runs.airflow_api import AirflowClient
    from cli.stack.stack_file import read_stack

    stack = read_stack()
    if stack is None or not stack.airflow_url:
        return "not announced because Airflow is not running: the next run reads them"
    with AirflowClient.of(stack) as airflow:
        airflow.announce(
            f"slipway://{name}/labels",
            {
                "rows": added.added + added.corrected,
                "delta": added.delta.name if added.delta else "",
            },
        )
    return f"announced to Airflow: {stack.airflow_url}/dags/{name}"
