"""What several benchmarks share: a figure as a JSON line, and the runs that tests make by hand."""

import importlib.util
import json
import sys
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
