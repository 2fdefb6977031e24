"""Engines that take and give dense numbers only, and how many threads each server gets."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from contract.errors import DataError
from contract.records.optimization import RuntimeFiles
from serving.server.runtime import Columns, Outputs

# A machine runs a stable server, a canary, a shadow and Envoy side by side; each gets its share. On
# 2 cores, a second thread cost a convnet's batch of 64 a tenth more CPU, an MLP's up to a fifth.
_SERVERS_PER_MACHINE = 4


class Engine(Protocol):
    """A loaded numeric core. `run` may be used from several threads at once."""

    def run(self, arrays: Columns) -> Outputs:
        """Run one batch: arrays by input name, of the file's dtypes, to arrays by output name."""


def threads_per_call() -> int:
    """Return how many cores one call of a model may use."""
    return max(1, len(os.sched_getaffinity(0)) // _SERVERS_PER_MACHINE)


def open_engine(folder: Path, files: RuntimeFiles, concurrent_calls: int) -> Engine:
    """Load a core.

    Args:
        folder: Where `runtime.json` lies.
        files: Its content.
        concurrent_calls: How many threads will call at once.

    Raises:
        DataError: If the file is missing or broken, or its engine is not installed.
    """
    path = folder / files.core
    if not path.is_file():
        raise DataError(f"{path}: the runtime's file is not there; package the run again")
    try:
        if files.engine == "openvino":
            from serving.server.openvino_runtime import OpenVinoEngine

            return OpenVinoEngine(path, files, concurrent_calls)
        from serving.server.litert_runtime import LiteRtEngine

        return LiteRtEngine(path, files)
    except (ImportError, RuntimeError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: {files.engine} cannot load it: {first_line}") from error


def indexes(found: Mapping[str, int], wanted: tuple[str, ...]) -> dict[str, int]:
    """Return the place of each wanted tensor in an engine's file.

    Raises:
        ValueError: If the file does not have one of them.
    """
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"has the tensors {sorted(found)}, expected also {missing}")
    return {name: found[name] for name in wanted}
