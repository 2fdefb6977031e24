"""Where a training begins: with fresh weights, or with those of the champion."""

import logging
from datetime import UTC, datetime

from components.models import checkpoints
from components.runs.retention import stored_plan
from components.train.learning.learner import Learner
from contract.errors import DataError, SlipwayError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.data import TransformRecord
from contract.records.evaluation import BlessRecord
from contract.records.package import PackageManifest
from contract.records.record import Result
from contract.records.training import TrainingStart
from contract.storage import Attempt, digest_directory

_VOCABULARIES = "transform_fn/assets"  # where tf.Transform's graph keeps them

log = logging.getLogger("slipway")


def choose_start(learner: Learner, run: RunLayout, attempt: Attempt) -> None:
    """Choose and record whose weights a training begins with, if its config wants the champion's.

    A champion whose weights do not fit is not an error, because the next run would have the same
    one: training begins with fresh weights then, and the record says why.

    Raises:
        ConflictError: If a later attempt trains this run now.
    """
    if learner.config.train.start_from != "champion":
        return
    version = stored_plan(run.of_pipeline).champion
    try:
        start = _start_from(version, learner, run)
    except SlipwayError as error:
        start = TrainingStart(reason=str(error), chosen_at=datetime.now(UTC))
    attempt.check()
    start.write(run.training_start)
    if start.reason:
        log.warning("train: begins with fresh weights: %s", start.reason)
    else:
        log.info("train: begins with the weights of version %d", start.version)


def load_start(learner: Learner, run: RunLayout) -> None:
    """Load what was chosen; every process of a training does.

    Raises:
        DataError: If the champion's checkpoint has been damaged since.
        NotFoundError: If it has been removed since.
    """
    start = read_start(learner.config.train.start_from, run)
    if start is not None and start.version is not None:
        source = RunLayout(run.root, run.pipeline, start.run_id)
        checkpoints.load_weights(learner.model, source, start.step)


def read_start(start_from: str, run: RunLayout) -> TrainingStart | None:
    """Return what was chosen; None where the config says that weights are fresh."""
    return None if start_from == "scratch" else TrainingStart.read(run.training_start)


def _start_from(version: int | None, learner: Learner, run: RunLayout) -> TrainingStart:
    """Return the champion as the start.

    Raises:
        SlipwayError: If its weights are gone, or mean something else in this run.
    """
    if version is None:
        raise DataError("no version is in service")
    source = _run_of(version, run)
    mark = f"version {version} of run '{source.run_id}'"
    if theirs := _other_classes(learner, source):
        raise DataError(f"{mark} has other classes: {theirs}")
    if _vocabularies(source) != _vocabularies(run):
        raise DataError(
            f"{mark} has other vocabularies, so that its weights belong to other values"
        )
    step = Result.read(source.result("bless")).detail_as(BlessRecord).step
    if misfit := checkpoints.misfit(learner.model, source, step):
        raise DataError(f"{mark} is another model: {misfit}")
    return TrainingStart(
        version=version, run_id=source.run_id, step=step, chosen_at=datetime.now(UTC)
    )


def _run_of(version: int, run: RunLayout) -> RunLayout:
    """Return the run that trained a version, or the version that it repeats.

    Raises:
        DataError: If the version was imported.
        NotFoundError: If its package is gone.
    """
    layout = run.of_pipeline
    made = PackageManifest.read(layout.package_manifest(version)).provenance
    if made.from_version is not None:
        return _run_of(made.from_version, run)
    if not made.has_run:
        raise DataError(f"version {version} was imported, without the checkpoint of a training")
    return layout.run(made.run_id)


def _other_classes(learner: Learner, source: RunLayout) -> str:
    """Return the champion's classes of the first head with others; empty if all are the same."""
    ours, theirs = learner.config.heads, load_frozen(source).heads
    for name in ours.keys() & theirs.keys():
        if ours[name].classes != theirs[name].classes:
            return f"heads.{name}.classes was {', '.join(theirs[name].classes)}"
    return ""


def _vocabularies(run: RunLayout) -> str:
    """Return the digest of all vocabularies that the transformation looks up; empty: none."""
    transformed = Result.read(run.result("transform")).detail_as(TransformRecord)
    folder = run.step("transform") / transformed.transform_graph / _VOCABULARIES
    return digest_directory(folder) if folder.is_dir() else ""
