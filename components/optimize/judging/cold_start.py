"""What a SavedModel costs a fresh process: time to the first answer, and memory.

`python -m components.optimize.judging.cold_start` imports TensorFlow once, reads one request
and measures each model in its own fork: nothing of one model is there when the next one begins, and
the import, which is the same for all, is neither waited for nor counted.
"""

import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.raw_examples import Array
from components.runs.child_process import tied_to_parent
from contract.loader import PROJECT

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
        command = [sys.executable, "-m", "components.optimize.judging.cold_start"]
        self._process = subprocess.Popen(
            tied_to_parent(command),
            cwd=PROJECT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def measure(
        self, models: Sequence[Path], signature: str, inputs: Mapping[str, Array]
    ) -> list[ColdStart | None]:
        """Measure models one after the other; None for one that did not come to an answer."""
        with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
            pickle.dump({name: column[:_ROWS] for name, column in inputs.items()}, file)
            file.flush()
            request = {
                "models": [str(m) for m in models],
                "signature": signature,
                "rows": file.name,
            }
            try:
                limit = _LONGEST_SECONDS * len(models)
                said, _ = self._process.communicate(json.dumps(request) + "\n", limit)
                found = json.loads(said.splitlines()[-1])
            except (subprocess.TimeoutExpired, OSError, ValueError, IndexError) as error:
                log.warning("optimize: cold start was not measured: %s", error)
                return [None] * len(models)
        return [None if one is None else ColdStart(*one) for one in found]


def _serve() -> None:
    """Answer the one request on stdin by one line on stdout."""
    import tensorflow  # noqa: F401 (before the request comes, so that nobody waits for it)

    from components.optimize.judging import (
        measure,  # noqa: F401
    )

    request = json.loads(sys.stdin.readline())
    rows = pickle.loads(Path(request["rows"]).read_bytes())
    found = [_in_fork(model, request["signature"], rows) for model in request["models"]]
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _in_fork(model: str, signature: str, rows: dict[str, Array]) -> tuple[float, int] | None:
    """Measure one model in a child; TensorFlow has started no thread before, so it may fork."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(_measure(model, signature, rows)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return tuple(json.loads(said)) if said else None


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
