"""One more DAG per pipeline that has a section `labels`: the label loop.

`harvest` makes questions of what was logged; `learn` stores what people have agreed on, and
`announce` emits the asset event that starts the pipeline's own DAG. A harvest that fails keeps no
answer from being learned. What they do: `cli/labels/`.
"""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronTriggerTimetable, get_parsing_context

from contract.errors import UserError
from contract.loader import load_pipeline
from contract.pipelines import pipeline_folders
from contract.records.labels import labels_asset
from contract.schema.labels import LabelsConfig
from contract.schema.pipeline import PipelineConfig
from launching.environment import artifact_root, current_runtime, starts_warm
from operators import explanations
from operators.component import PipelineRef
from operators.label_loop import AnnounceLabelsOperator, LabelLoopOperator, LearnOperator
from operators.notify import FailureNotice

RUNTIME = current_runtime()
# Airflow wants a beginning of time; without catch-up it has no other meaning.
BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)


def label_loop_dag(config: PipelineConfig, labels: LabelsConfig) -> DAG:
    """Build the DAG of one pipeline's label loop."""
    root = str(artifact_root(RUNTIME))
    pipeline, is_warm = PipelineRef(config.name, root, config.notify), starts_warm(RUNTIME)

    def task(name: str) -> dict[str, Any]:
        doc = explanations.LABEL_LOOP_TASKS[name]
        return {"task_id": name, "doc_md": doc, "pipeline": pipeline}

    with DAG(
        explanations.label_loop_id(config.name),
        description=f"The label loop of {config.name}.",
        doc_md=explanations.of_label_loop(config.name, labels),
        schedule=CronTriggerTimetable(labels.cron, timezone="UTC") if labels.cron else None,
        start_date=BEGINNING,
        catchup=False,
        max_active_runs=1,  # one harvest after the other
        tags=["slipway", "labels"],
        default_args={
            "retries": config.schedule.retries,
            "retry_delay": timedelta(seconds=config.schedule.retry_delay_seconds),
            "execution_timeout": timedelta(seconds=config.schedule.timeout_seconds),
            "on_failure_callback": FailureNotice(config.notify),
        },
    ) as dag:
        asset = Asset(labels_asset(config.name))
        LabelLoopOperator(is_warm=is_warm, **task("harvest"))
        learn = LearnOperator(min_labels=labels.min_labels, is_warm=is_warm, **task("learn"))
        announce = AnnounceLabelsOperator(labels=asset, **task("announce"))
        learn >> announce
    return dag


# The process of a task needs only the DAG of its pipeline.
wanted = get_parsing_context().dag_id
for name, folder in pipeline_folders().items():
    if wanted in (None, explanations.label_loop_id(name)):
        with contextlib.suppress(UserError):
            config = load_pipeline(folder)
            if config.labels is not None:
                label_loop_dag(config, config.labels)
