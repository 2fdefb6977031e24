"""`python -m serving.server.trial`: a model tried with given rows, as a server would run it.

Loads and warms the model in a separate process, says so by a line on standard output, waits for a
line on standard input (so that several can load at once and be measured one after the other), and
writes what it answered and measured.
"""

import argparse
import json
import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from contract.errors import EXIT_DONE, SlipwayError
from contract.model_io import DEFAULT_SIGNATURE
from contract.text_arrays import restored, storable
from serving.server.engines.cpu import this_machine
from serving.server.engines.engine import Columns, Outputs, ServedModel
from serving.server.engines.engine_import import import_engine
from serving.server.engines.opening import open_model

_WARM_UP_CALLS = 5
_LONGEST_SECONDS = 0.25  # a batch size
_MOST_CALLS = 2000
_FEWEST_CALLS = 5
_ANSWERED_ROWS = 32  # a call
_LONGEST_ANSWERING_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run a trial; return the process's exit code, with the reason on standard output if not 0."""
    options = _parse(arguments)
    try:
        import_engine(is_tensorflow=options.engine is None)
        model = open_model(options.model, options.engine, {}, options.concurrent_calls)
        rows = _rows(options.rows, model)
        for batch in (1, 32):
            for _ in range(_WARM_UP_CALLS):
                model.call(DEFAULT_SIGNATURE, _batch(rows, batch))
    except (SlipwayError, RuntimeError, ValueError) as error:
        print((str(error).splitlines() or [type(error).__name__])[0], flush=True)  # noqa: T201
        return error.exit_code if isinstance(error, SlipwayError) else 1
    started = _start_figures()
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    figures = started | _figures(model, rows)
    answers = _answers(model, rows, _LONGEST_ANSWERING_SECONDS)
    _write(options.answers, answers)
    if options.judged_rows is not None:
        judged = _answers(model, _rows(options.judged_rows, model), math.inf)
        _write(options.judged, judged)
    machine = {"machine": this_machine().model_dump(mode="json")}
    options.report.write_text(json.dumps(figures | machine), encoding="utf-8")
    return EXIT_DONE


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.server.trial", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="SavedModel")
    parser.add_argument("--engine", type=Path, help="folder with engine.json; else TensorFlow")
    parser.add_argument("--rows", type=Path, required=True, help=".npz: an array for each input")
    parser.add_argument("--answers", type=Path, required=True, help=".npz to write")
    parser.add_argument("--judged-rows", type=Path, help="more rows, all of them answered")
    parser.add_argument("--judged", type=Path, help=".npz to write the answers to those")
    parser.add_argument("--report", type=Path, required=True, help="JSON to write")
    parser.add_argument("--concurrent-calls", type=int, default=1)
    return parser.parse_args(arguments)


def _rows(path: Path, model: ServedModel) -> Columns:
    """Read the rows as the signature takes them."""
    inputs = model.signatures[DEFAULT_SIGNATURE].inputs
    with np.load(path, allow_pickle=False) as arrays:
        rows = {name: restored(arrays[name]) for name in inputs}
    return {
        name: rows[name] if tensor.dtype == "string" else rows[name].astype(tensor.dtype)
        for name, tensor in inputs.items()
    }


def _write(path: Path, answers: Outputs) -> None:
    np.savez(path, allow_pickle=False, **{name: storable(answers[name]) for name in answers})


def _start_figures() -> dict[str, float]:
    process, usage = psutil.Process(), resource.getrusage(resource.RUSAGE_SELF)
    return {
        "start_seconds": time.time() - process.create_time(),
        "start_cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def _figures(model: ServedModel, rows: Columns) -> dict[str, float]:
    one, cpu_ms_batch_1 = _timed(model, _batch(rows, 1))
    many, cpu_ms_batch_32 = _timed(model, _batch(rows, 32))
    p50, p99 = np.percentile(one, [50, 99])
    return {
        "memory_mb": psutil.Process().memory_info().rss / 2**20,
        "p50_ms_batch_1": float(p50) * 1000,
        "p99_ms_batch_1": float(p99) * 1000,
        "p50_ms_batch_32": float(np.median(many)) * 1000,
        "rows_per_second": 32 * len(many) / sum(many),
        "cpu_ms_batch_1": cpu_ms_batch_1,
        "cpu_ms_batch_32": cpu_ms_batch_32,
    }


def _timed(model: ServedModel, batch: Columns) -> tuple[list[float], float]:
    """Return the seconds of each call, and the mean CPU-milliseconds of one."""
    model.call(DEFAULT_SIGNATURE, batch)
    seconds: list[float] = []
    started, cpu_started = time.perf_counter(), time.process_time()
    ends = started + _LONGEST_SECONDS
    while len(seconds) < _FEWEST_CALLS or (len(seconds) < _MOST_CALLS and started < ends):
        model.call(DEFAULT_SIGNATURE, batch)
        now = time.perf_counter()
        seconds.append(now - started)
        started = now
    return seconds, (time.process_time() - cpu_started) * 1000 / len(seconds)


def _answers(model: ServedModel, rows: Columns, longest_seconds: float) -> Outputs:
    """Answer the rows, of a slow model only the first ones."""
    count, parts = len(next(iter(rows.values()))), list[Outputs]()
    ends = time.perf_counter() + longest_seconds
    for start in range(0, count, _ANSWERED_ROWS):
        batch = {name: array[start : start + _ANSWERED_ROWS] for name, array in rows.items()}
        parts.append(model.call(DEFAULT_SIGNATURE, batch))
        if time.perf_counter() > ends:
            break
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batch(rows: Columns, size: int) -> dict[str, Any]:
    count = len(next(iter(rows.values())))
    return {name: array[np.arange(size) % count] for name, array in rows.items()}


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # at once: TensorFlow was seen to crash in its own tear-down
