"""Processes forked from a warm parent against fresh ones: `python tests/benchmarks/bench_warm.py`.

- `run_warm_*`: `slipway run digits --local` up to the package, wall and CPU of all its processes,
  the parent's included. The peer is the same run with `processes.start: fresh`. Medians of five.
  `run_warm_digests_that_differ` counts the artifacts of the two that are not equal, of all rounds;
  those of `optimize` and `package` hold measured times and the run's name.
- `start_*`: CPU until a component has read its command line. The peer is a fresh process that has
  imported what a trainer imports; the limit is a fresh Python that does nothing.
- `forks`: 10,000 processes in sequence and then 16 at once; the parent's memory and open files
  before and after.

    --rounds 5  --forks 10000  --only run start forks
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
from support import ROOT, emit

sys.path.insert(0, str(ROOT))

from contract.records.package import PackageManifest
from contract.records.record import Result
from launching.environment import component_environment
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import PRELOADED, own_warm_parent

NOTHING = "pass"
TRAINER = "import components.train.train"
COMPONENT = "from components.runs.step import StepCommand"
MIB = 1 << 20


def cpu_seconds() -> float:
    """Return what all processes that this one has waited for have used, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each artifact of the only run in a state folder, by step and name."""
    results = [
        Result.read(path) for path in sorted(folder.glob("artifacts/*/runs/*/*/result.json"))
    ]
    found = {f"{r.step}/{name}": a.digest for r in results for name, a in r.artifacts.items()}
    (manifest,) = folder.glob("artifacts/*/versions/1/package.json")
    return found | {"package/model": PackageManifest.read(manifest).digest}


def run_digits(start: str, folder: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of a local run in its own state folder."""
    runtime = folder / f"{start}.yaml"
    runtime.write_text(f"kind: local\nprocesses:\n  start: {start}\n")
    environment = {**os.environ, "SLIPWAY_RUNTIME": str(runtime), "SLIPWAY_HOME": str(folder)}
    command = [sys.executable, "-m", "cli.main", "run", "digits", "--local"]
    clock, cpu = time.monotonic(), cpu_seconds()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return time.monotonic() - clock, cpu_seconds() - cpu


def bench_run(rounds: int) -> None:
    """Compare whole runs, warm and fresh in turn."""
    wall: dict[str, list[float]] = {"warm": [], "fresh": []}
    cpu: dict[str, list[float]] = {"warm": [], "fresh": []}
    differing: set[str] = set()
    for _ in range(rounds):
        made: list[dict[str, str]] = []
        for start in wall:
            with tempfile.TemporaryDirectory() as folder:
                seconds, used = run_digits(start, Path(folder))
                made.append(digests(Path(folder)))
            wall[start].append(seconds)
            cpu[start].append(used)
        warm, fresh = made
        differing |= {name for name in {*warm, *fresh} if warm.get(name) != fresh.get(name)}
    names = {"of": len(made[0]), "differing": sorted(differing)}
    emit("run_warm_digests_that_differ", float(len(differing)), None, None, "artifacts", **names)
    for name, found in (("wall", wall), ("cpu", cpu)):
        ours, peer = (statistics.median(found[start]) for start in ("warm", "fresh"))
        emit(f"run_warm_{name}", ours, peer, None, "s", goal=0.55, rounds=rounds)


@contextmanager
def parent_in(folder: Path) -> Iterator[tuple[Path, psutil.Process]]:
    """A warm parent with all that components import, when it is warm."""
    log = folder / "warm.log"
    environment = component_environment(os.environ, None)
    with own_warm_parent(environment, log, PRELOADED) as socket:
        while "warm after" not in log.read_text():
            time.sleep(0.1)
        yield (
            socket,
            next(p for p in psutil.Process().children() if str(socket) in str(p.cmdline())),
        )


def started(code: str, folder: Path, socket: Path | None) -> int:
    """Run some code and return its exit code."""
    command = (sys.executable, "-c", code)
    start = ProcessStart(command, component_environment(os.environ, None), folder)
    process = StepProcess(start, folder / "lock", socket)
    for _ in process.lines(lambda: None):
        pass
    return process.wait()


def bench_start(rounds: int) -> None:
    """Compare what a component costs before its work, by the tree of its processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with parent_in(folder) as (socket, parent):
            warm = statistics.median(_warm_cpu(parent, folder, socket) for _ in range(rounds))
        fresh = statistics.median(
            _cpu_of(lambda: started(TRAINER, folder, None)) for _ in range(rounds)
        )
        bare = statistics.median(
            _cpu_of(lambda: started(NOTHING, folder, None)) for _ in range(rounds)
        )
    emit("start_of_a_component_warm", warm, fresh, bare, "CPU-s", goal=0.2)


def _warm_cpu(parent: psutil.Process, folder: Path, socket: Path) -> float:
    """The parent's own time for the fork, and that of the processes that it has reaped."""
    before = sum(parent.cpu_times()[:4])
    for _ in range(20):
        started(COMPONENT, folder, socket)
    while parent.children():
        time.sleep(0.05)
    return (sum(parent.cpu_times()[:4]) - before) / 20


def _cpu_of(run: Callable[[], object]) -> float:
    before = cpu_seconds()
    run()
    return cpu_seconds() - before


def bench_forks(count: int) -> None:
    """Fork many, and look at what the parent holds before and after."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders = [folder / str(number) for number in range(16)]
        for one in folders:
            one.mkdir()
        with parent_in(folder) as (socket, parent):
            assert started(NOTHING, folder, socket) == 0
            before, files = parent.memory_info().rss, parent.num_fds()
            clock = time.monotonic()
            failed = sum(started(NOTHING, folder, socket) != 0 for _ in range(count))
            seconds = time.monotonic() - clock
            with ThreadPoolExecutor(16) as pool:
                failed += sum(pool.map(lambda f: started(NOTHING, f, socket) != 0, folders))
            while parent.children():
                time.sleep(0.1)
            grown = (parent.memory_info().rss - before) / MIB
            emit("forks_failed", float(failed), None, None, "processes", of=count + 16)
            emit("fork_and_end", seconds / count, None, None, "s")
            emit("parent_grown_by", grown, None, None, "MiB", files=parent.num_fds() - files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forks", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", default=["start", "forks", "run"])
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "start": lambda: bench_start(options.rounds),
        "forks": lambda: bench_forks(options.forks),
        "run": lambda: bench_run(options.rounds),
    }
    for part in options.only:
        parts[part]()


if __name__ == "__main__":
    main()
