"""Removing what is too old: runs, versions and prediction logs, by config.

Kept whatever the config says: every version that the traffic plan names, the runs that those came
from (they are the record of what serves), the best champion so far (`champions`), and every run
that may continue. Label deltas are data and never removed.
"""

import logging
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from contract.errors import NotFoundError, SlipwayError
from contract.layout import PipelineLayout, RunLayout, run_folder
from contract.prediction_log.removing import tidy_log
from contract.records.evaluation import BlessRecord
from contract.records.package import PackageManifest
from contract.records.record import Result
from contract.records.traffic import DeployRecord, TrafficPlan
from contract.schema.pipeline import RetentionConfig
from contract.schema.serving import ServeConfig
from contract.storage import exclusive_lock

log = logging.getLogger("slipway")

# A run that did not end is left alone for so long after its last sign of life: longer than a
# night, a retry or a person's approval over a weekend takes.
ABANDONED_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class Removed:
    """What was removed."""

    runs: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    logs: int = 0

    def in_words(self) -> tuple[str, ...]:
        """Return one sentence, or none where nothing was removed."""
        if not (self.runs or self.versions or self.logs):
            return ()
        return (
            f"removed by retention: {len(self.runs)} runs, versions "
            f"{', '.join(map(str, self.versions)) or 'none'}, {self.logs} files of prediction logs",
        )


def apply(
    layout: PipelineLayout,
    config: RetentionConfig,
    plan: TrafficPlan,
    now: datetime,
    protected: Iterable[int] = (),
) -> Removed:
    """Remove what is beyond the config's limits, oldest first, and return what that was.

    It is called when a run begins and when one has been promoted: refused ones leave as much.
    Several may call this at once: one does it, the others wait. A folder is renamed out of sight
    before it is removed, so that nobody reads half of one. `protected` versions stay.
    """
    with exclusive_lock(layout.path / ".retention.lock"):
        used = plan.versions | stored_plan(layout).versions
        versions = _surplus_versions(layout, config, used | set(protected))
        for version in versions:
            remove_version(layout, version)
        runs = _surplus_runs(layout, config, used, now)
        for run in runs:
            _remove(run)
        logs = sum(_tidy_log(layout, folder, config, now) for folder in _logs(layout))
    removed = Removed(tuple(run.name for run in runs), tuple(versions), logs)
    for words in removed.in_words():
        log.info("%s: %s", layout.pipeline, words)
    return removed


def stored_plan(layout: PipelineLayout) -> TrafficPlan:
    """Return the plan as it is on storage now; an empty one where nothing has ever served.

    Raises:
        DataError: If there is one that cannot be read: then nothing is known to be unused.
    """
    try:
        return TrafficPlan.read(layout.traffic_plan)
    except NotFoundError:
        return TrafficPlan(pipeline=layout.pipeline)


def remove_version(layout: PipelineLayout, version: int) -> None:
    """Remove one version and its prediction logs; the caller knows that nothing uses it."""
    _remove(layout.version(version))
    _remove(layout.predictions(version))


# --- what is surplus ----------------------------------------------------------------------------


def _surplus_versions(
    layout: PipelineLayout, config: RetentionConfig, used: Iterable[int]
) -> list[int]:
    kept = layout.kept_versions()
    newest = set(kept[-config.versions :])
    return [version for version in kept if version not in newest | set(used)]


def _surplus_runs(
    layout: PipelineLayout, config: RetentionConfig, used: Iterable[int], now: datetime
) -> list[Path]:
    folders = [p for p in layout.runs.glob("*") if p.is_dir() and not p.name.startswith(".")]
    by_age = sorted(folders, key=_last_sign_of_life)
    sources = {run for version in used for run in _runs_behind(layout, version)}
    return [
        run
        for run in by_age[: -config.runs]
        if run.name not in sources and not _may_go_on(layout, run, now)
    ]


def _runs_behind(layout: PipelineLayout, version: int) -> set[str]:
    """Return the folders of the runs that a version, and the one that it repeats, came from."""
    try:
        made = PackageManifest.read(layout.package_manifest(version)).provenance
    except SlipwayError:
        return set()
    before = _runs_behind(layout, made.from_version) if made.from_version else set()
    return {run_folder(made.run_id)} | before


def _may_go_on(layout: PipelineLayout, run: Path, now: datetime) -> bool:
    """Tell whether a run has not ended and shows signs of life."""
    if now.timestamp() - _last_sign_of_life(run) > ABANDONED_AFTER.total_seconds():
        return False
    steps = RunLayout(layout.root, layout.pipeline, run.name)
    if steps.result("promote").exists():
        return False
    try:
        if not Result.read(steps.result("bless")).detail_as(BlessRecord).is_blessed:
            return False
        canary = Result.read(steps.result("canary")).detail_as(DeployRecord)
    except SlipwayError:
        return True
    return canary.has_passed


def _last_sign_of_life(run: Path) -> float:
    """Return when a step last began or ended in a run, as a POSIX timestamp."""
    signs = [run, *run.glob(".attempts/*/*"), *run.glob("*/result.json"), *run.glob("*/state.json")]
    return max((_modified(path) for path in signs), default=0.0)


# --- removing -----------------------------------------------------------------------------------


def _logs(layout: PipelineLayout) -> list[Path]:
    folders = (layout.serving / "predictions").glob("[!.]*")
    return [folder for folder in folders if folder.name.isdigit()]


def _tidy_log(layout: PipelineLayout, folder: Path, config: RetentionConfig, now: datetime) -> int:
    """Remove what a version's log has too much, by its own limits and `log_days`; count the files.

    Servers do the same for the version that they serve.
    """
    try:
        serve = PackageManifest.read(layout.package_manifest(int(folder.name))).serve
    except SlipwayError:
        serve = ServeConfig()
    days = min(serve.prediction_log_days, config.log_days)
    return tidy_log(folder, serve.model_copy(update={"prediction_log_days": days}), now)


def _remove(folder: Path) -> None:
    hidden = folder.parent / f".{folder.name}.removed-{time.time_ns()}"
    try:
        folder.rename(hidden)
    except FileNotFoundError:
        return
    for remains in folder.parent.glob(".*.removed-*"):
        shutil.rmtree(remains, ignore_errors=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
