"""The way in: what this machine has, and new pipelines from data frames."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.pipeline import Pipeline

if TYPE_CHECKING:
    import pandas as pd

    from contract.records.stack import Stack


def connect(
    *, pipelines: str | os.PathLike[str] | None = None, home: str | os.PathLike[str] | None = None
) -> "Slipway":
    """Return the Slipway of this machine; its services need not be up.

    Args:
        pipelines: A folder of pipeline folders. It becomes this process's SLIPWAY_PIPELINES, which
            holds if nothing is given.
        home: The folder of Slipway's state. It becomes this process's SLIPWAY_HOME, likewise.
    """
    for variable, folder in (("SLIPWAY_PIPELINES", pipelines), ("SLIPWAY_HOME", home)):
        if folder is not None:
            os.environ[variable] = str(Path(folder).expanduser().absolute())
    return Slipway()


class Slipway:
    """The pipelines and services of this machine."""

    @property
    def services(self) -> "Stack | None":
        """Addresses of the services that `slipway up` has started; None if it has not."""
        from cli.stack.stack_file import read_stack

        return read_stack()

    @property
    def pipelines(self) -> list[str]:
        """The names of all pipelines."""
        from contract.pipelines import pipeline_folders

        return sorted(pipeline_folders())

    def pipeline(self, name: str) -> Pipeline:
        """Return a pipeline by its name.

        Raises:
            NotFoundError: If there is none, with the nearest name.
        """
        from contract.pipelines import find_pipeline

        find_pipeline(name)
        return Pipeline(name)

    def new(
        self, name: str, frame: "pd.DataFrame | str | os.PathLike[str]", *, label: str
    ) -> Pipeline:
        """Make a pipeline that learns one column of a frame, or of a CSV file, from the others.

        It is what `slipway new NAME --from CSV --label COLUMN` makes. A frame is stored as
        `data/NAME.csv` in the pipeline's folder, without its index: `frame.reset_index()` makes a
        column of that. The folder goes into the first one of SLIPWAY_PIPELINES.

        Raises:
            ConfigError: If the name is not one for a pipeline.
            DataError: If the frame cannot be a table, or its label cannot be learned.
            UserError: If there is a pipeline of this name.
        """
        from cli.scaffold.folder import from_table, new_folder

        if isinstance(frame, str | os.PathLike):
            new_folder(name, None, from_table(Path(frame).expanduser(), label))
        else:
            from slipway.frames import writing_frame

            new_folder(name, None, writing_frame(frame, label))
        return self.pipeline(name)

    def __repr__(self) -> str:
        stack = self.services
        told = (
            f"services at {stack.data_plane_url}"
            if stack is not None
            else "no services are running"
        )
        return f"<Slipway: {len(self.pipelines)} pipelines, {told}>"
