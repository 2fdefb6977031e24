"""What a SavedModel costs a fresh process: time to the first answer, and memory.

A process that has imported TensorFlow and not used it reads one request and measures each model in
a separate fork: nothing of one model is there when the next one begins, and the import, which is
the same for all, is neither waited for nor counted. That process is itself a fork where this one
has not used TensorFlow yet, else `python -m components.optimize.judging.cold_start`.
"""

import json
import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.data.raw_examples import Array
from components.optimize.judging.bench_process import (
    BenchProcess,
    ForkedBench,
    FreshBench,
    in_fork,
    may_fork,
)
from contract.text_arrays import restored, storable

log = logging.getLogger("slipway")

_ROWS = 32
_LONGEST_SECONDS = 60.0  # a model


@dataclass(frozen=True)
class ColdStart:
    """Seconds from the start of loading to the first answer, and bytes added at the peak."""

    seconds: float
    peak_bytes: int


class Bench:
    """A process that waits, with TensorFlow imported, for models to measure."""

    def __init__(self) -> None:
        """Start it: at best before the first use of TensorFlow, see `may_fork`."""
        command = [sys.executable, "-m", "components.optimize.judging.cold_start"]
        self.process: BenchProcess = ForkedBench(_answer) if may_fork() else FreshBench(command)

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.end()

    def measure(
        self, models: Sequence[Path], signature: str, inputs: Mapping[str, Array]
    ) -> list[ColdStart | None]:
        """Measure models one after the other; None for one that did not come to an answer."""
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            rows = {name: storable(column[:_ROWS]) for name, column in inputs.items()}
            np.savez(file, allow_pickle=False, **rows)
            file.flush()
            request = {
                "models": [str(m) for m in models],
                "signature": signature,
                "rows": file.name,
            }
            try:
                limit = _LONGEST_SECONDS * len(models)
                said = self.process.ask(json.dumps(request), limit)
                found = json.loads(said.splitlines()[-1])
            except (OSError, ValueError, IndexError) as error:
                log.warning("optimize: cold start was not measured: %s", error)
                return [None] * len(models)
        return [None if one is None else ColdStart(*one) for one in found]


def _serve() -> None:
    """Answer the one request on stdin by one line on stdout."""
    import tensorflow  # noqa: F401 (before the request comes, so that nobody waits for it)

    from components.optimize.judging import (
        measure,  # noqa: F401
    )

    sys.stdout.write(_answer(sys.stdin.readline()) + "\n")
    sys.stdout.flush()


def _answer(line: str) -> str:
    """Measure each model of a request in a child; TensorFlow has not started a thread yet."""
    request = json.loads(line)
    with np.load(request["rows"], allow_pickle=False) as stored:
        rows = {name: restored(stored[name]) for name in stored.files}

    def of(model: str) -> tuple[float, int]:
        return _measure(model, request["signature"], rows)

    return json.dumps([in_fork(partial(of, model)) for model in request["models"]])


def _measure(model: str, signature: str, rows: dict[str, Any]) -> tuple[float, int]:
    import tensorflow as tf

    from components.optimize.judging.batches import feed

    before = _peak_bytes()
    started = time.perf_counter()
    call = tf.saved_model.load(model).signatures[signature]
    call(**feed(rows, slice(0, 1)))
    seconds = time.perf_counter() - started
    call(**feed(rows, slice(0, _ROWS)))
    return seconds, _peak_bytes() - before


def _peak_bytes() -> int:
    """Return the largest resident size that this process ever had, from /proc."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    _serve()
