"""Removing what this machine keeps beside the artifacts, when it is too old: logs, environments.

The artifacts themselves are the components' business (`components/runs/retention.py`).
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from contract.storage import exclusive_lock

_DAY_SECONDS = 24 * 3600
# A step may be importing from its environment for as long as it runs.
_LEAST_ENVIRONMENT_DAYS = 7


def local_logs(home: Path, pipeline: str) -> Path:
    """Return the folder that has a folder of logs for each run without Airflow."""
    return home / "logs" / "local" / pipeline


def remove_old(home: Path, pipeline: str, log_days: int) -> list[Path]:
    """Remove a pipeline's old logs, and environments that no pipeline has used; return them.

    Args:
        home: The state folder. Only an Airflow that `slipway up` has started logs below it.
        log_days: `retention.log_days` of the pipeline; by the last change, or use.
    """
    old = [path for path in _logs(home, pipeline) if _days_old(path) > log_days]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return old + remove_unused_environments(home, log_days)


def remove_unused_environments(home: Path, log_days: int) -> list[Path]:
    """Remove and return the environments that no step has been started in for so long."""
    days = max(log_days, _LEAST_ENVIRONMENT_DAYS)
    removed = []
    for path in home.glob("environments/[!.]*/"):
        with exclusive_lock(path.with_suffix(".lock")):
            if _days_since(path) > days:
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
    return removed


def _logs(home: Path, pipeline: str) -> Iterator[Path]:
    yield from local_logs(home, pipeline).glob("*/")
    airflow = home / "airflow" / "logs"
    yield from airflow.glob(f"dag_id={pipeline}/*/")
    yield from airflow.glob("dag_processor/*/")  # one a day, of all pipelines


def _days_old(folder: Path) -> float:
    """Return how long ago anything in a folder was last written."""
    return min(map(_days_since, [folder, *folder.rglob("*")]))


def _days_since(path: Path) -> float:
    try:
        return (time.time() - path.stat().st_mtime) / _DAY_SECONDS
    except FileNotFoundError:
        return 0.0
