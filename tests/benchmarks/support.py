"""What several benchmarks share: a figure as a JSON line, and the runs that tests make by hand."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def emit(
    name: str, ours: float, peer: float | None, limit: float | None, unit: str, **more: Any
) -> None:
    """Print one figure: `ratio` is ours over the peer's, or, without a peer, over the limit."""
    against = peer or limit
    line = {"name": name, "ours": ours, "peer": peer, "limit": limit}
    line["ratio"] = ours / against if against else None
    line |= {"unit": unit, **more}
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()}
    print(json.dumps(rounded, ensure_ascii=False), flush=True)


@dataclass(frozen=True)
class Cost:
    """What a command used, with the processes that it waited for."""

    cpu_seconds: float
    peak_mib: float  # of its largest process
    seconds: float


def cost_of(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command in the project's folder to its good end, and return what it used."""
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    cpu_seconds = used.ru_utime + used.ru_stime
    return Cost(cpu_seconds, used.ru_maxrss / 1024, time.monotonic() - began)


def handmade_runs(component: str) -> ModuleType:
    """Return what the integration tests of `training` or `evaluation` make their runs with."""
    path = ROOT / "tests" / "integration" / component / "conftest.py"
    specification = importlib.util.spec_from_file_location(f"{component}_runs", path)
    if specification is None or specification.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def training_runs(folder: Path) -> Any:
    """Return the maker of training runs, below a folder of their own."""
    return handmade_runs("training").RunMaker(folder / "root", folder / "pipelines")
