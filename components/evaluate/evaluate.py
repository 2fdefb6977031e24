"""Evaluate: judge every published checkpoint exactly once, beside the training that makes them."""

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from components import checkpoints
from components.evaluate.figures import Figures
from components.evaluate.judge import Judge
from components.examples import example_source
from components.metrics import check_metric_name, metric_names
from components.tracking import Tracker
from components.verdicts import best_step, read_verdicts
from contract.errors import DataError, NotFoundError, ServiceUnavailableError
from contract.layout import RunLayout
from contract.records import (
    CheckpointManifest,
    EvaluateRecord,
    TrainingEnded,
    TransformRecord,
    Verdict,
)
from contract.schema import PipelineConfig
from contract.storage import create_exclusively

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class Evaluation:
    """Which run to evaluate."""

    config: PipelineConfig
    run: RunLayout
    transformed: TransformRecord
    tracker: Tracker


def evaluate(evaluation: Evaluation) -> tuple[EvaluateRecord, tuple[str, ...]]:
    """Judge checkpoints as they are published, until training has ended and all are judged.

    A checkpoint's verdict is a file that only one process can create, whoever judges and however
    often it is killed. One that is half-written or corrupt is not judged, and named.

    Returns:
        The record, and what a reader should know: that training failed, or a checkpoint was broken.

    Raises:
        ServiceUnavailableError: If nothing new came for `evaluate.timeout_seconds`.
        DataError: If training has ended and there is nothing to judge.
        ConfigError: If `bless.metric` is not measured.
    """
    queue = _Queue(evaluation)
    ended = queue.work_off()
    verdicts = read_verdicts(evaluation.run)
    best = best_step(evaluation.config, verdicts)
    reasons = [f"checkpoint {step} is broken, not judged" for step in sorted(queue.broken)]
    if not ended.has_succeeded:
        reasons.append(f"training failed, judged is what there was: {ended.reason}")
    if best is None:
        raise DataError(_nothing_best(evaluation, verdicts, reasons))
    lag = max(verdict.lag_seconds for verdict in verdicts)
    steps = tuple(verdict.step for verdict in verdicts)
    record = EvaluateRecord(steps=steps, best_step=best, max_lag_seconds=lag)
    return record, tuple(reasons)


class _Queue:
    """The checkpoints that wait for their verdict."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.broken: set[int] = set()
        config, run, transformed = evaluation.config, evaluation.run, evaluation.transformed
        graph = run.step("transform") / transformed.transform_graph
        source = example_source(run, config, transformed, "eval")
        self._evaluation = evaluation
        self._judge = Judge(config, run.frozen_pipeline, graph, source)
        known = metric_names(config, config.blessing_head, self._judge.custom)
        check_metric_name(config.bless.metric, known, "bless.metric")
        self._figures = Figures(evaluation.tracker)
        for verdict in read_verdicts(run):  # an earlier attempt was killed before it logged them
            self._figures.log(verdict)

    def work_off(self) -> TrainingEnded:
        """Judge until the training has ended and its last checkpoint has a verdict."""
        config = self._evaluation.config.evaluate
        deadline = time.monotonic() + config.timeout_seconds
        while True:
            ended = self._ended()  # before the listing: what is listed after it is all there is
            is_any_new = self._judge_waiting()
            if is_any_new:
                deadline = time.monotonic() + config.timeout_seconds
            elif ended is not None:
                return ended
            elif time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"evaluate: no checkpoint and no end of training in {config.timeout_seconds:g} "
                    f"s (evaluate.timeout_seconds); look at the log of 'train'"
                )
            else:
                time.sleep(config.poll_seconds)

    def _ended(self) -> TrainingEnded | None:
        try:
            return TrainingEnded.read(self._evaluation.run.training_ended)
        except NotFoundError:
            return None

    def _judge_waiting(self) -> bool:
        """Judge all published checkpoints without a verdict, oldest first; tell if there were any.

        A broken one is tried again in every round: a resumed training may publish it anew.
        """
        run = self._evaluation.run
        waiting = [m for m in checkpoints.list_published(run) if not run.verdict(m.step).exists()]
        judged = {manifest.step for manifest in waiting if self._give_verdict(manifest)}
        self.broken = {manifest.step for manifest in waiting} - judged
        return bool(judged)

    def _give_verdict(self, manifest: CheckpointManifest) -> bool:
        run, started = self._evaluation.run, time.monotonic()
        try:
            checkpoints.load_weights(self._judge.model, run, manifest.step)
        except (DataError, NotFoundError) as error:
            if manifest.step not in self.broken:  # say it once
                log.warning("evaluate: checkpoint skipped: %s", error)
            return False
        judgement = self._judge.judge()
        now = datetime.now(UTC)
        verdict = Verdict(
            step=manifest.step,
            examples=judgement.examples,
            metrics=judgement.metrics,
            slices=judgement.slices,
            judged_at=now,
            lag_seconds=max(0.0, (now - manifest.written_at).total_seconds()),
        )
        if not create_exclusively(run.verdict(manifest.step), verdict.model_dump_json(indent=2)):
            log.info("evaluate: checkpoint %d was judged by another process", manifest.step)
            return True
        self._figures.log(verdict)
        self._report(verdict, time.monotonic() - started)
        return True

    def _report(self, verdict: Verdict, seconds: float) -> None:
        config = self._evaluation.config
        metric = verdict.metrics[config.blessing_head].get(config.bless.metric)
        figure = "undefined"
        if metric is not None:
            figure = f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
        log.info(
            "evaluate: checkpoint %d, %s %s, %d examples in %.2f s, lag %.1f s",
            *(verdict.step, config.bless.metric, figure, verdict.examples, seconds),
            verdict.lag_seconds,
        )


def _nothing_best(evaluation: Evaluation, verdicts: list[Verdict], reasons: list[str]) -> str:
    why = "; ".join(reasons) or "none was published"
    if verdicts:
        metric = evaluation.config.bless.metric
        why = (
            f"'{metric}' is undefined in all {len(verdicts)} verdicts; choose another bless.metric"
        )
    return f"evaluate: no checkpoint to recommend: {why}"
