"""Train: fit the user's model and publish checkpoints until the last step."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from components import checkpoints
from components.examples import example_source
from components.metrics import check_metric_name, metric_names
from components.model_hooks import custom_metrics
from components.tracking import Tracker
from components.train.learner import make_learner
from components.train.loop import Loop, Stop
from components.train.progress import Progress
from components.train.strategies import open_strategy
from contract.errors import UserError
from contract.layout import RunLayout
from contract.records import TrainingEnded, TrainRecord, TransformRecord
from contract.schema import PipelineConfig
from contract.storage import Attempt


@dataclass(frozen=True)
class TrainingJob:
    """What to train: one run's transformed examples, by whoever holds the attempt."""

    config: PipelineConfig
    run: RunLayout
    transformed: TransformRecord
    attempt: Attempt
    tracker: Tracker


def train(job: TrainingJob) -> TrainRecord:
    """Train from the last whole checkpoint on, or from the beginning, and publish checkpoints.

    The order is the contract with the evaluator beside us: each checkpoint's manifest last, and
    `ended.json` after the last checkpoint. A failure that a retry cannot mend writes it too, with
    the reason; one that a retry continues (SIGTERM, a full disk) does not.

    Raises:
        ConfigError: If `bless.metric` is none that is measured.
        DataError: If examples are unreadable or the loss is not finite.
        UserCodeError: If the model or a hook raises or returns the wrong thing.
        ConflictError: If a later attempt trains this run now.
        SlipwayError: After SIGTERM, once a checkpoint is published.
    """
    job.run.training_ended.unlink(missing_ok=True)
    with _ended_on_failure(job), _termination() as stop:
        _check_metric(job)
        source = example_source(job.run, job.config, job.transformed, "train")
        graph = job.run.step("transform") / job.transformed.transform_graph
        strategy = open_strategy(job.config.train.strategy)
        learner = make_learner(job.config, job.run.frozen_pipeline, graph, strategy)
        loop = Loop(learner, job.run, job.attempt, Progress(job.config.train, job.tracker))
        resumed_from_step = loop.resume()
        reason = loop.run(source, stop, time.monotonic)
    _end(job, has_succeeded=True, step=loop.step, reason=reason)
    return TrainRecord(
        last_step=loop.step,
        checkpoints=tuple(m.step for m in checkpoints.list_published(job.run)),
        parameters=learner.model.count_params(),
        resumed_from_step=resumed_from_step,
    )


def _check_metric(job: TrainingJob) -> None:
    """Refuse now what `evaluate` and the keep policy would stumble over later."""
    head, own = job.config.blessing_head, custom_metrics(job.run.frozen_pipeline, job.config)
    known = metric_names(job.config, head, own)
    check_metric_name(job.config.bless.metric, known, f"bless.metric of head '{head}'")


@contextmanager
def _ended_on_failure(job: TrainingJob) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        steps = [m.step for m in checkpoints.list_published(job.run)]
        _end(job, has_succeeded=False, step=max(steps, default=0), reason=str(error))
        raise


def _end(job: TrainingJob, has_succeeded: bool, step: int, reason: str) -> None:
    job.attempt.check()
    TrainingEnded(
        has_succeeded=has_succeeded, last_step=step, reason=reason, ended_at=datetime.now(UTC)
    ).write(job.run.training_ended)


@contextmanager
def _termination() -> Iterator[Stop]:
    """Yield a flag that SIGTERM raises; the loop looks at it between two steps."""
    stop = Stop()

    def raise_flag(number: int, _frame: object) -> None:
        stop.signal = signal.Signals(number).name

    before = signal.signal(signal.SIGTERM, raise_flag)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
