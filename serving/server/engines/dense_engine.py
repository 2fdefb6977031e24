"""Engines that take and give dense numbers only."""

from pathlib import Path
from typing import Protocol

from contract.errors import DataError
from contract.records.optimization import EngineFiles
from serving.server.engines.engine import Columns, Outputs


class Engine(Protocol):
    """A loaded numeric core. `run` may be used from several threads at once."""

    def run(self, arrays: Columns) -> Outputs:
        """Run one batch: arrays by input name, of the file's dtypes, to arrays by output name."""


def open_engine(folder: Path, files: EngineFiles, concurrent_calls: int) -> Engine:
    """Load a core.

    Args:
        folder: Where `engine.json` lies.
        files: Its content.
        concurrent_calls: How many threads will call at once.

    Raises:
        DataError: If the file is missing or broken, or its engine is not installed.
    """
    path = folder / files.core
    if not path.is_file():
        raise DataError(f"{path}: the engine's file is missing; package the run again")
    try:
        # Each is imported only where it serves: they are large.
        if files.engine == "openvino":
            from serving.server.engines.openvino_engine import OpenVinoEngine

            return OpenVinoEngine(path, files, concurrent_calls)
        from serving.server.engines.litert_engine import LiteRtEngine

        return LiteRtEngine(path, files)
    except (ImportError, RuntimeError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: {files.engine} cannot load it: {first_line}") from error
