"""What the optimiser and its engines make of five models, beside what others make of them.

Prints JSON lines {name, ours, peer, limit, ratio, unit}. All engines of a model run in this one
process, in turns, one thread each, and each figure is the median of `--rounds` rounds; `ratio` is
how many times as fast as the plain SavedModel (by CPU time; `wall_ratio` by the clock). Names of
`ours` are the optimised SavedModel for the server's own engines; making `ours_tensorflow` is what
the optimiser itself takes. Peers: the graph only frozen, ONNX Runtime on tf2onnx's model, with its
own quantiser for int8, OpenVINO with NNCF and the LiteRT converter, both straight from the plain
SavedModel. The models are those of `optimize_models.py`.

    python tests/benchmarks/bench_optimize.py [--models mlp,mnist] [--rounds 5] [--table FILE]
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
os.environ |= {"OMP_NUM_THREADS": "1"}

import tensorflow as tf  # noqa: E402
from optimize_models import DATA, MODELS, SIGNATURE, Subject, mobilenet  # noqa: E402
from optimize_variants import Call, Made, Maker, quiet  # noqa: E402

from components.optimize.graph.graphs import GraphModel  # noqa: E402
from components.optimize.judging.calibration import observe  # noqa: E402
from serving.server.engines.cores import threads_per_call  # noqa: E402

BATCHES = (1, 32)
SECONDS_A_TURN = 0.2
MAX_CALIBRATION_SECONDS = 300


def timed(call: Call, batch: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return CPU and wall milliseconds of a call, over at least one and 0.2 s of them."""
    calls, cpu, wall = 0, time.process_time(), time.perf_counter()
    while not calls or time.perf_counter() - wall < SECONDS_A_TURN:
        call(batch)
        calls += 1
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return spent[0] * 1000 / calls, spent[1] * 1000 / calls


def rounds(
    made: Mapping[str, Made], subject: Subject, count: int
) -> dict[tuple[str, int], tuple[float, float]]:
    """Return median CPU and wall milliseconds by variant and batch; variants take turns."""
    seen: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(count):
        for rows in BATCHES:
            batch = {n: v[np.arange(rows) % len(v)] for n, v in subject.rows.items()}
            for name, variant in made.items():
                seen.setdefault((name, rows), []).append(timed(variant.call, batch))
    return {
        key: (statistics.median(c for c, _ in values), statistics.median(w for _, w in values))
        for key, values in seen.items()
    }


def accuracy(call: Call, subject: Subject) -> float:
    """Return the accuracy in percent on the labelled rows."""
    assert subject.labels is not None
    answers = [
        call({n: v[start : start + 100] for n, v in subject.tests.items()})["scores"]
        for start in range(0, len(subject.labels), 100)
    ]
    return float(100 * np.mean(np.concatenate(answers).argmax(1) == subject.labels))


@dataclass(frozen=True)
class Line:
    """One variant of a model: CPU-milliseconds a call by rows, and by the clock; accuracy in %."""

    variant: str
    cpu_ms: dict[int, float]
    wall_ms: dict[int, float]
    made: Made
    accuracy: float | None


def measured(maker: Maker, count: int) -> list[Line]:
    """Return the figures of one model's variants, the plain SavedModel first."""
    subject, made = maker.subject, maker.made
    times = rounds(made, subject, count)
    return [
        Line(
            variant,
            {rows: times[variant, rows][0] for rows in BATCHES},
            {rows: times[variant, rows][1] for rows in BATCHES},
            one,
            None if subject.labels is None else accuracy(one.call, subject),
        )
        for variant, one in made.items()
    ]


def report(name: str, lines: list[Line]) -> None:
    """Print the figures of one model, a JSON line each."""
    plain = lines[0]
    for line in lines:
        start = f"{name}_{line.variant}"
        for rows in BATCHES:
            cpu, base = line.cpu_ms[rows], plain.cpu_ms[rows]
            say(f"{start}_batch_{rows}", cpu, base, base / cpu, "CPU-ms/call",
                wall_ms=round(line.wall_ms[rows], 3),
                wall_ratio=round(plain.wall_ms[rows] / line.wall_ms[rows], 2))  # fmt: skip
        size, whole = line.made.size_bytes, plain.made.size_bytes
        say(f"{start}_size", size / 2**20, whole / 2**20, size / whole, "MiB")
        say(f"{start}_making", line.made.cpu_seconds, None, None, "CPU-s",
            wall_s=round(line.made.wall_seconds, 2))  # fmt: skip
        if line.accuracy is not None and plain.accuracy is not None:
            say(f"{start}_accuracy", line.accuracy, plain.accuracy, None, "%",
                points_lost=round(plain.accuracy - line.accuracy, 2))  # fmt: skip


def table(name: str, lines: list[Line]) -> str:
    """Return the figures of one model as a Markdown table for the docs."""
    plain = lines[0]
    heads = [name, *(f"CPU-ms, {rows} row{'s'[: rows - 1]}" for rows in BATCHES), "of the size"]
    heads += ["accuracy, %", "made in, s"]
    rows = [heads, ["---", *["--:"] * (len(heads) - 1)]]
    for line in lines:
        times = [
            f"{line.cpu_ms[n]:.3g} ({plain.cpu_ms[n] / line.cpu_ms[n]:.1f} ×)" for n in BATCHES
        ]
        accurate = "" if line.accuracy is None else f"{line.accuracy:.2f}"
        share = line.made.size_bytes / plain.made.size_bytes
        took = f"{line.made.wall_seconds:.1f}"
        rows.append([line.variant.replace("_", " "), *times, f"{share:.2f}", accurate, took])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def say(
    name: str, ours: float, peer: float | None, ratio: float | None, unit: str, **more: float
) -> None:
    line: dict[str, Any] = {"name": f"optimize_{name}", "ours": round(ours, 4)}
    line |= {"peer": None if peer is None else round(peer, 4), "limit": None}
    line["ratio"] = None if ratio is None else round(ratio, 3)
    print(json.dumps(line | {"unit": unit, **more}), flush=True)


def measure_calibration(rows: int) -> None:
    """Time the activation ranges of MobileNetV2 by `kl` over many rows, on all cores."""
    with tempfile.TemporaryDirectory() as place, quiet():
        subject = mobilenet(Path(place))
        model = GraphModel.lift(subject.path).rewritten(lambda signature: signature.frozen())
        images = np.concatenate([subject.rows["image"]] * -(-rows // 32))[:rows]
        began, cpu = time.perf_counter(), time.process_time()
        ranges = [values.range("kl") for values in observe(model, {SIGNATURE: {"image": images}})]
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    line = {"name": f"optimize_calibration_{rows}_rows", "ours": round(wall, 2), "peer": None}
    line |= {"limit": MAX_CALIBRATION_SECONDS, "ratio": round(wall / MAX_CALIBRATION_SECONDS, 3)}
    print(json.dumps(line | {"unit": "s", "cpu_s": round(cpu, 2), "layers": len(ranges)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="which, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calibrate", type=int, metavar="ROWS", help="time calibration only")
    parser.add_argument("--table", type=Path, metavar="FILE", help="Markdown tables for the docs")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    if given.calibrate:
        return measure_calibration(given.calibrate)
    if "mobilenet" in given.models:
        subprocess.run([sys.executable, __file__, "--calibrate", "1000"], check=True)
    # Before anything is computed, and as a server does it.
    tf.config.threading.set_intra_op_parallelism_threads(threads_per_call())
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tables = [measure(name, given.rounds) for name in given.models.split(",")]
    if given.table is not None:
        given.table.write_text("\n".join(filter(None, tables)))
    return None


def measure(name: str, rounds_of_turns: int) -> str:
    """Make, measure and report all variants of one model; return its table, empty without data."""
    with tempfile.TemporaryDirectory() as place:
        with quiet():
            subject = MODELS[name](Path(place))
        if subject is None:
            print(json.dumps({"name": f"optimize_{name}", "left_out": f"no data at {DATA}"}))
            return ""
        maker = Maker(name, subject, Path(place))
        maker.all()
        lines = measured(maker, rounds_of_turns)
        report(name, lines)
        for num_steps in (256, 64):
            with quiet():
                ratio = maker.rounded_ratio(num_steps)
            unit = "of the plain SavedModel"
            say(f"{name}_rounded_to_{num_steps}_compressed", ratio, None, ratio, unit)
        return table(name, lines)


if __name__ == "__main__":
    main()
