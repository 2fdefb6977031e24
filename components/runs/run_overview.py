"""What the parent MLflow run of a pipeline run shows: figures to compare runs by, and how it ended.

Steps tell it one after another; none of them knows the whole. A run ends with the step that
decides: a refusal by `bless`, a trial that did not pass, `promote`; or with `package` until
`canary` begins.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from contract.addresses import (
    AGENT_URL,
    AIRFLOW_URL,
    DATA_PLANE_URL,
    rollout_page,
    served_at,
)
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord
from contract.records.optimization import OptimizeRecord
from contract.records.package import PackageRecord
from contract.records.record import Result
from contract.records.traffic import DeployRecord
from contract.tracked_run import MOST_TAG_CHARACTERS, OUTCOME_TAG, REASONS_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUNNING = "running"
_NOTE = "mlflow.note.content"
_LOCAL = "local-"  # how the ids of runs without Airflow begin
_TOLD_OF_TRAINING = ("loss", "train_loss", "examples_per_second")


@dataclass(frozen=True)
class Overview:
    """What one step adds. `outcome` is empty unless the run ends with this step."""

    figures: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    outcome: str = ""
    reasons: tuple[str, ...] = ()


def overview_of(result: Result) -> Overview:
    """Return what a step's result adds to its run's overview."""
    tell = {
        "train": _train,
        "bless": _bless,
        "optimize": _optimize,
        "package": _package,
        "canary": _canary,
        "promote": _promote,
    }
    told = tell[result.step](result) if result.step in tell else Overview()
    seconds = {f"seconds_{result.step}": result.seconds}
    return Overview({**told.figures, **seconds}, told.tags, told.outcome, told.reasons)


def tell_parent(client: "MlflowClient", parent: str, run: RunLayout, result: Result) -> None:
    """Write what a step's result adds into the parent run, and end that if the run has ended."""
    from mlflow.entities import Metric, RunTag

    told = overview_of(result)
    at = int(1000 * (result.started_at.timestamp() + result.seconds))
    tags = dict(told.tags)
    if told.outcome:
        tags |= {OUTCOME_TAG: told.outcome, REASONS_TAG: "\n".join(told.reasons)}
        tags[_NOTE] = note_of(run, told, client.get_run(parent).data.tags | tags)
    client.log_batch(
        parent,
        metrics=[Metric(name, float(value), at, 0) for name, value in told.figures.items()],
        tags=[RunTag(name, value[:MOST_TAG_CHARACTERS]) for name, value in tags.items()],
        synchronous=True,
    )
    if told.outcome:
        client.set_terminated(parent, "FINISHED")


def tell_failure(client: "MlflowClient", parent: str, step: str, reason: str) -> None:
    """End the parent run as failed; a retry takes it up again."""
    client.set_tag(parent, OUTCOME_TAG, f"failed in '{step}'")
    client.set_tag(parent, REASONS_TAG, reason[:MOST_TAG_CHARACTERS])
    client.set_terminated(parent, "FAILED")


def note_of(run: RunLayout, told: Overview, tags: Mapping[str, str]) -> str:
    """Return the parent's description, in Markdown: outcome, reasons, and where to look further."""
    lines = [f"**{told.outcome}**", *(f"- {reason}" for reason in told.reasons)]
    links = {"Run in Airflow": airflow_link(run), "Served model": tags.get("slipway.served_at", "")}
    if run.step("canary").exists():
        links["Rollout"] = rollout_page(os.environ.get(AGENT_URL, ""), run.pipeline)
    lines += [f"[{name}]({link})" for name, link in links.items() if link]
    return "\n\n".join(lines)


def airflow_link(run: RunLayout) -> str:
    """Return the page of a run in Airflow; empty for a run without it."""
    url = os.environ.get(AIRFLOW_URL, "").rstrip("/")
    if not url or run.run_id.startswith(_LOCAL):
        return ""
    return f"{url}/dags/{run.pipeline}/runs/{quote(run.run_id, safe='')}"


# --- by step ------------------------------------------------------------------------------------


def _train(result: Result) -> Overview:
    figures = {name: v for name, v in result.metrics.items() if name in _TOLD_OF_TRAINING}
    return Overview(figures)


def _bless(result: Result) -> Overview:
    record = result.detail_as(BlessRecord)
    figures = {}
    for head, metrics in record.metrics.items():
        for name, metric in metrics.items():
            figures[f"{head}/{name}"] = metric.value
            figures[f"{head}/{name}_low"] = metric.low
            figures[f"{head}/{name}_high"] = metric.high
    compared = record.champion_version
    tags = {"slipway.compared_with_version": "none" if compared is None else str(compared)}
    outcome = "" if record.is_blessed else "not blessed"
    return Overview(figures, tags, outcome, record.reasons)


def _optimize(result: Result) -> Overview:
    record = result.detail_as(OptimizeRecord)
    whole, trial = record.ledger[-1], record.engine.trial
    latency = trial.p50_ms_batch_1 if trial is not None else whole.latency_ms_batch_1
    figures = {"model_size_kib": whole.size_bytes / 1024, "latency_ms": latency}
    return Overview(figures, {"slipway.engine": record.engine.name})


def _package(result: Result) -> Overview:
    record = result.detail_as(PackageRecord)
    figures = {
        "version": float(record.version),
        "requests_per_second": record.load.requests_per_second,
        "p99_ms": record.load.p99_ms,
    }
    tags = {"slipway.version": str(record.version)}
    return Overview(figures, tags, "packaged", (f"version {record.version} is packaged",))


def _canary(result: Result) -> Overview:
    record = result.detail_as(DeployRecord)
    figures = {
        "canary_requests": float(record.canary_requests),
        "canary_errors": float(record.canary_errors),
    }
    if record.has_passed:
        return Overview(figures, outcome="passed, not promoted yet", reasons=record.reasons)
    return Overview(figures, outcome=record.outcome.replace("_", " "), reasons=record.reasons)


def _promote(result: Result) -> Overview:
    record = result.detail_as(DeployRecord)
    where = served_at(os.environ.get(DATA_PLANE_URL, ""), result.pipeline, record.version)
    is_served = record.outcome == "promoted" and where
    tags = {"slipway.served_at": where} if is_served else {}
    return Overview({}, tags, record.outcome.replace("_", " "), record.reasons)
