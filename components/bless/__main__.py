"""`python -m components.bless`: the best checkpoint, judged against what is serving."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.runs.agent_client import AgentClient
from components.runs.step import Outcome, Step, main
from contract.addresses import AGENT_TOKEN_FILE, AGENT_URL
from contract.errors import DataError, NotFoundError
from contract.records.data import IngestRecord, TransformRecord
from contract.records.evaluation import BlessRecord, EvaluateRecord
from contract.records.traffic import TrafficPlan
from contract.records.training import TrainRecord

if TYPE_CHECKING:
    from components.quality.metrics import Answers

CANDIDATE = "candidate"


def work(step: Step) -> Outcome:
    """Choose, export and judge the candidate."""
    from components.bless.answers import TestSplit
    from components.bless.bless import bless
    from components.bless.candidate import export_candidate
    from components.bless.champion import Champion
    from components.models.model_hooks import custom_metrics
    from components.quality.metrics import check_metrics

    config, run = step.config, step.run
    own = custom_metrics(run.frozen_pipeline, config)
    check_metrics(config, own)
    _check_all_judged(step)
    target = step.output / CANDIDATE
    chosen = export_candidate(run, config, step.upstream("transform", TransformRecord), target)
    ingested = step.upstream("ingest", IngestRecord)
    test = TestSplit.find([run.step("ingest") / s for s in ingested.shards["test"]], config)
    champion = Champion.find(run.of_pipeline, serving_version(step), config)
    blessing = bless(target, champion, test, config, own)
    _track(step, blessing.answers)
    record = BlessRecord(
        is_blessed=blessing.is_blessed,
        candidate=CANDIDATE,
        step=chosen,
        champion_version=champion.version,
        metrics=blessing.metrics,
        champion_metrics=blessing.champion_metrics,
        reasons=blessing.reasons,
        detectable_difference=blessing.detectable_difference,
    )
    return Outcome(record, {"candidate": CANDIDATE}, _figures(record), blessing.reasons)


def _track(step: Step, answers: "Mapping[str, Answers]") -> None:
    if not step.tracker.is_on:
        return
    from components.quality.curves import curves_of
    from components.quality.pictures import draw  # imports matplotlib

    for head, given in answers.items():
        config = step.config.heads[head]
        title = f"{head} on the test split, {len(given.labels):,} rows"
        step.tracker.log_figure(draw(config, curves_of(config.task, given), title), f"{head}.png")


def _check_all_judged(step: Step) -> None:
    """Refuse to choose while a checkpoint waits for its verdict: it may be the best.

    This happens if training was cleared and continued after the evaluation had ended.
    """
    trained = step.upstream("train", TrainRecord)
    evaluated = step.upstream("evaluate", EvaluateRecord)
    waiting = set(trained.checkpoints) - {*evaluated.steps, *evaluated.broken_steps}
    if waiting:
        raise DataError(
            f"checkpoints {', '.join(map(str, sorted(waiting)))} have no verdict: training "
            "continued "
            "after 'evaluate' had ended; clear 'evaluate', too"
        )


def serving_version(step: Step) -> int | None:
    """Return what serves now: by the agent, or without one by the plan that it left on storage."""
    if url := os.environ.get(AGENT_URL):
        token_file = Path(os.environ.get(AGENT_TOKEN_FILE, ""))
        with AgentClient.with_token_file(url, token_file) as agent:
            return agent.plan(step.run.pipeline).champion
    try:
        return TrafficPlan.read(step.run.of_pipeline.traffic_plan).champion
    except NotFoundError:
        return None


def _figures(record: BlessRecord) -> dict[str, float]:
    figures = {"is_blessed": float(record.is_blessed), "checkpoint": float(record.step)}
    if record.detectable_difference is not None:
        figures["detectable_difference"] = record.detectable_difference
    for prefix, metrics in (("", record.metrics), ("champion/", record.champion_metrics)):
        for head, by_name in metrics.items():
            figures |= {f"{prefix}{head}/{name}": m.value for name, m in by_name.items()}
    return figures


if __name__ == "__main__":
    main("bless", work)
