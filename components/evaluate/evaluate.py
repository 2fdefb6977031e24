"""Evaluate: judge every published checkpoint exactly once, beside the training that makes them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from components.data.examples import example_source
from components.evaluate.mlflow_figures import Figures, flat
from components.evaluate.one_checkpoint import CheckpointJudge
from components.evaluate.queue import Holder, Queue, Terms
from components.evaluate.row_check import RowCheck
from components.evaluate.worker import Duties, Patience, Worker, heartbeat
from components.models import checkpoints
from components.quality.metrics import check_metrics
from components.quality.verdicts import best_step, read_verdicts
from components.runs.summaries import Summaries
from components.runs.tracking import Tracker
from contract.errors import DataError, UserCodeError
from contract.layout import RunLayout
from contract.records.data import TransformRecord
from contract.records.evaluation import EvaluateRecord, ModelRefused, Verdict
from contract.records.training import TrainingEnded
from contract.schema.pipeline import PipelineConfig
from contract.storage import Attempt, write_atomically
from contract.stores import ObjectStore, store_of

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class Evaluation:
    """Which run to evaluate, and as whom: replica 0 owns the result, the others help it."""

    config: PipelineConfig
    run: RunLayout
    transformed: TransformRecord
    tracker: Tracker
    attempt: Attempt
    replica: int = 0


def evaluate(evaluation: Evaluation) -> tuple[EvaluateRecord, tuple[str, ...]]:
    """Judge checkpoints as they are published, until training has ended and all are judged.

    Any number of processes may do so at once, on any machine that sees the storage; each checkpoint
    gets one verdict (see `protocol`). One that is half-written or corrupt is not judged, and named.

    Returns:
        The record, and what a reader should know: that training failed, or a checkpoint was broken.

    Raises:
        ServiceUnavailableError: If nothing new came for `evaluate.timeout_seconds`.
        DataError: If training has ended and there is nothing to judge, or the eval split is broken
            or has no labels.
        ConfigError: If a metric is named that is not measured.
        ConflictError: If another process has become this replica.
        UserCodeError: If answers of the model to a row depend on the rows beside it, or change from
            call to call: found in the first checkpoint that is judged. It ends training, too.
    """
    config, run = evaluation.config.evaluate, evaluation.run
    if not evaluation.replica:
        run.model_refused.unlink(missing_ok=True)  # of an attempt before
    queue = _queue(evaluation)
    with heartbeat(queue, config.lease_seconds):
        announcer = None if evaluation.replica else _Announcer(evaluation)
        duties = Duties(
            judge=_judging(evaluation),
            announce=announcer.announce if announcer else None,
            check=evaluation.attempt.check,
            idle=announcer.draw_one if announcer else lambda: False,
            announced=announcer.announced if announcer else frozenset(),
        )
        worker = Worker(queue, duties, Patience(config.poll_seconds, config.timeout_seconds))
        ended = worker.work_off()
        while duties.idle():
            evaluation.attempt.check()
        if announcer is not None:
            announcer.close()
    verdicts = read_verdicts(run)
    judged = {verdict.step for verdict in verdicts}
    broken = sorted({one.step for one in worker.state.broken} - judged)
    return _record(evaluation, verdicts, broken, _reasons(broken, ended))


def _queue(evaluation: Evaluation) -> Queue:
    config, run = evaluation.config.evaluate, evaluation.run
    below_root = store_of(run.evaluation_queue)
    store = _object_store(evaluation) if config.queue_uri else below_root
    holder = Holder(evaluation.replica, evaluation.attempt.number)
    return Queue(run, store, Terms(holder, config.lease_seconds))


def _object_store(evaluation: Evaluation) -> ObjectStore:
    run = evaluation.run
    base = evaluation.config.evaluate.queue_uri.rstrip("/")
    return ObjectStore(f"{base}/{run.pipeline}/{run.path.name}")


def _judging(evaluation: Evaluation) -> Callable[[int], Verdict]:
    config, run = evaluation.config, evaluation.run
    graph = run.step("transform") / evaluation.transformed.transform_graph
    source = example_source(run, config, evaluation.transformed, "eval")
    judge = CheckpointJudge(config, run.frozen_pipeline, graph, source)
    check_metrics(config, judge.custom)
    row_check = RowCheck(config, run, graph, judge)

    def give_verdict(step: int) -> Verdict:
        checkpoints.load_weights(judge.model, run, step)
        if reason := row_check.problem(step):
            evaluation.attempt.check()
            ModelRefused(step=step, reason=reason).write(run.model_refused)
            raise UserCodeError(f"evaluate: checkpoint {step}: {reason}")
        judgement = judge.judge()
        return Verdict(
            step=step,
            examples=judgement.examples,
            metrics=judgement.metrics,
            slices=judgement.slices,
            curves=judgement.curves,
            judged_at=datetime.now(UTC),
            lag_seconds=0.0,  # known when it is published
        )

    return give_verdict


class _Announcer:
    """Makes verdicts known: to MLflow, TensorBoard, and below the root to trainer and `bless`."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._figures = Figures(evaluation.tracker, evaluation.config.heads)
        self._summaries = Summaries(evaluation.run.verdict_summaries)
        self.close = self._summaries.close
        known = read_verdicts(evaluation.run)
        self._is_drawing = evaluation.config.evaluate.pictures and evaluation.tracker.is_on
        self._to_draw = list(known) if self._is_drawing else []
        self.announced = self._figures.logged & {verdict.step for verdict in known}

    def announce(self, verdict: Verdict) -> None:
        """Log the verdict's figures, and copy it below the root if it lies elsewhere."""
        config, path = self._evaluation.config, self._evaluation.run.verdict(verdict.step)
        if not path.exists():
            write_atomically(path, verdict.model_dump_json(indent=2))
        self._figures.log(verdict)
        self._summaries.scalars(verdict.step, flat(verdict))
        if self._is_drawing:
            self._to_draw.append(verdict)
        metric = verdict.metrics.get(config.blessing_head, {}).get(config.bless.metric)
        figure = "undefined"
        if metric is not None:
            figure = f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
        log.info("evaluate: checkpoint %d, %s %s", verdict.step, config.bless.metric, figure)

    def draw_one(self) -> bool:
        """Draw what there is of one verdict; tell whether there was one left.

        A picture takes longer than a verdict, so it waits until no checkpoint does.
        """
        if not self._to_draw:
            return False
        self._figures.draw(self._to_draw.pop(0))
        return True


def _reasons(broken: list[int], ended: TrainingEnded) -> list[str]:
    reasons = [f"checkpoint {step} is broken, not judged" for step in broken]
    if not ended.has_succeeded:
        reasons.append(f"training failed; its checkpoints were judged: {ended.reason}")
    return reasons


def _record(
    evaluation: Evaluation, verdicts: list[Verdict], broken: list[int], reasons: list[str]
) -> tuple[EvaluateRecord, tuple[str, ...]]:
    best = best_step(evaluation.config, verdicts)
    if best is None:
        raise DataError(_nothing_best(evaluation, verdicts, reasons))
    lags = [verdict.lag_seconds for verdict in verdicts]
    record = EvaluateRecord(
        steps=tuple(verdict.step for verdict in verdicts),
        best_step=best,
        broken_steps=tuple(broken),
        max_lag_seconds=max(lags),
        p95_lag_seconds=float(np.percentile(lags, 95)),
    )
    return record, tuple(reasons)


def _nothing_best(evaluation: Evaluation, verdicts: list[Verdict], reasons: list[str]) -> str:
    why = "; ".join(reasons) or "none was published"
    if verdicts:
        metric = evaluation.config.bless.metric
        why = (
            f"'{metric}' is undefined in all {len(verdicts)} verdicts; choose another bless.metric"
        )
    return f"evaluate: no checkpoint to recommend: {why}"
