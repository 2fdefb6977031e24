"""Train: fit the user's model and publish checkpoints until the last step."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import keras
import tensorflow as tf

from components.data.examples import example_source
from components.models import checkpoints
from components.models.model_hooks import custom_metrics
from components.quality.metrics import check_metrics
from components.runs.tracking import Tracker
from components.train.learning.learner import Learner, make_learner
from components.train.learning.steppers import InStep, Stepper
from components.train.learning.strategies import open_strategy
from components.train.learning.warm_start import read_start
from components.train.loop import Loop, Place, Stop
from components.train.parameter_servers.chief import ParameterServers
from components.train.peers.session import Session, chief_session
from components.train.watch.divergence import DivergedError, Retraining, find_divergence, in_words
from components.train.watch.monitor import Monitor, Watched
from contract.errors import DataError, SlipwayError, UserError
from contract.interrupts import Terminated, raised_again
from contract.layout import RunLayout
from contract.records.data import TransformRecord
from contract.records.training import TrainingEnded, TrainRecord
from contract.roles import Role
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig
from contract.storage import Attempt

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class TrainingJob:
    """What to train: one run's transformed examples, by the owner of the attempt."""

    config: PipelineConfig
    run: RunLayout
    transformed: TransformRecord
    attempt: Attempt
    tracker: Tracker
    role: Role = field(default_factory=Role)


def train(job: TrainingJob) -> TrainRecord:
    """Train from the last whole checkpoint on, or from the start, and publish checkpoints.

    The order is the contract with the evaluator beside us: each checkpoint's manifest last, and
    `ended.json` after the last checkpoint. A failure that a retry cannot fix writes it too, with
    the reason; one that a retry continues (SIGTERM, a lost process, a full disk) does not.

    Raises:
        ConfigError: If a metric is named that is not measured, or the strategy does not fit the
            processes.
        DataError: If examples are unreadable or the loss is not finite.
        UserCodeError: If the model or a hook raises or returns the wrong thing.
        ConflictError: If a later attempt trains this run now.
        PeerError: If another process of the training is gone or hangs.
        SlipwayError: After SIGTERM, once a checkpoint is published.
    """
    job.run.training_ended.unlink(missing_ok=True)
    with _ended_on_failure(job), termination() as stop:
        source = example_source(job.run, job.config, job.transformed, "train")
        with (
            chief_session(job.config.train, job.role, job.run) as session,
            _divergence_explained(job),
        ):
            stepper = open_stepper(job.config, job.run, job.transformed, session)
            # Makes metrics; TensorFlow wants its strategy made before anything.
            check_metrics(job.config, custom_metrics(job.run.frozen_pipeline, job.config))
            loop = Loop(stepper, _place(job, session, stop), _monitor(job, stepper, session))
            resumed_from_step = loop.resume()
            reason = loop.run(source)
            parameters = stepper.learner.model.count_params()
    _end(job, has_succeeded=True, step=loop.step, reason=reason)
    return TrainRecord(
        last_step=loop.step,
        checkpoints=tuple(m.step for m in checkpoints.list_published(job.run)),
        parameters=parameters,
        resumed_from_step=resumed_from_step,
        start=read_start(job.config.train.start_from, job.run),
    )


def open_stepper(
    config: PipelineConfig, run: RunLayout, transformed: TransformRecord, session: Session
) -> Stepper:
    """Return what makes the chief's steps."""
    source = example_source(run, config, transformed, "train")
    learner = open_learner(config, run, transformed, session)
    if config.train.strategy == "parameter_server":
        return ParameterServers(learner, source, session)
    return InStep(learner, source, session.collective)


def open_learner(
    config: PipelineConfig, run: RunLayout, transformed: TransformRecord, session: Session
) -> Learner:
    """Return the model and its optimizer, made under the strategy of the config."""
    set_up(config.train)
    graph = run.step("transform") / transformed.transform_graph
    strategy = open_strategy(config.train, session.collective, session.hosts)
    peers = config.train.workers if config.train.is_synchronous else 1
    return make_learner(config, run.frozen_pipeline, graph, strategy, peers)


def set_up(config: TrainConfig) -> None:
    """Set TensorFlow's switches for this process; before anything else is made."""
    tf.config.run_functions_eagerly(config.eager)
    if config.is_deterministic:
        keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()


def _place(job: TrainingJob, session: Session, stop: Stop) -> Place:
    team = session.chief_team
    if team is not None:
        team.on_stop(lambda signal_name: setattr(stop, "signal", signal_name))
    return Place(job.run, job.attempt, team, stop, collective=session.collective)


def _monitor(job: TrainingJob, stepper: Stepper, session: Session) -> Monitor:
    return Monitor(
        Watched(
            config=job.config.train,
            run=job.run,
            tracker=job.tracker,
            model=stepper.learner.model,
            waited_seconds=stepper.waited_seconds,
            team=session.chief_team,
        )
    )


@contextmanager
def _ended_on_failure(job: TrainingJob) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        steps = [m.step for m in checkpoints.list_published(job.run)]
        _end(job, has_succeeded=False, step=max(steps, default=0), reason=str(error))
        raise


@contextmanager
def _divergence_explained(job: TrainingJob) -> Iterator[None]:
    """Find what made the numbers infinite: which step, layer and batch, kept to look at again.

    This process does it alone; the others wait for its word, and end with what it has found.
    """
    try:
        yield
    except DivergedError as error:
        source = example_source(job.run, job.config, job.transformed, "train")
        graph = job.run.step("transform") / job.transformed.transform_graph
        steps = (error.good_step, error.noticed_step)
        found = find_divergence(Retraining(job.config, job.run, graph, source, *steps))
        said = in_words(found, job.run) if found else "When repeated, the steps stayed finite"
        raise DataError(f"{error}. {said}") from error


def _end(job: TrainingJob, has_succeeded: bool, step: int, reason: str) -> None:
    job.attempt.check()
    TrainingEnded(
        has_succeeded=has_succeeded, last_step=step, reason=reason, ended_at=datetime.now(UTC)
    ).write(job.run.training_ended)


@contextmanager
def termination(tell: Callable[[str], None] | None = None) -> Iterator[Stop]:
    """Yield a flag that SIGTERM raises; a member has `tell`, and continues until its chief ends."""
    stop = Stop()

    def raise_flag(number: int, _frame: object) -> None:
        stop.signal = signal.Signals(number).name
        if tell is not None:  # not from here: the thread that was interrupted may be telling
            threading.Thread(target=tell, args=(stop.signal,), daemon=True).start()
        elif not stop.is_read:
            raise Terminated(stop.signal)

    before = signal.signal(signal.SIGTERM, raise_flag)
    try:
        with raised_again():
            yield stop
    except Terminated as ended:
        raise SlipwayError(
            f"train: {ended} before the first step; a retry starts where this one did"
        ) from ended
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def end_at_once() -> Iterator[None]:
    """Let SIGTERM end this process as SIGKILL does: its chief continues without it.

    For a member that is replaced alone. Where it is a container's first process, SIGTERM would do
    nothing without a handler.
    """

    def leave(number: int, _frame: object) -> None:
        os._exit(128 + number)  # as shells and container runtimes say it

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
