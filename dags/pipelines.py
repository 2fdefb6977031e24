"""One Airflow DAG per pipeline folder, from its `pipeline.yaml` alone.

Read the chain at the end of `pipeline_dag` first. What each task does: `operators/explanations.py`.
A pipeline that cannot be read is left out here and named by `pipeline_errors.py`.
"""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Label,
    TaskGroup,
    TriggerRule,
    chain,
    get_parsing_context,
)
from airflow.sdk.definitions.param import ParamsDict

from contract.errors import UserError
from contract.loader import load_pipeline
from contract.pipelines import pipeline_folders
from contract.schema.pipeline import PipelineConfig, ScheduleConfig
from launching.environment import artifact_root, current_runtime
from operators import explanations
from operators.approval import ApproveOperator
from operators.component import PipelineRef
from operators.notify import FailureNotice
from operators.run_request import form
from operators.runtimes import step_operators
from operators.start import StartOperator

RUNTIME = current_runtime()
OPERATORS = {"start": StartOperator, "approve": ApproveOperator, **step_operators(RUNTIME)}
ParamsDict(form()).validate()  # once: the forms of pipelines differ in what they say only
LONGEST_RETRY_DELAY = timedelta(minutes=10)
# Airflow wants a beginning of time; without catch-up it has no other meaning.
BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)


def pipeline_dag(config: PipelineConfig) -> DAG:
    """Build the DAG of one pipeline."""
    root = str(artifact_root(RUNTIME))
    common = {
        "pipeline": PipelineRef(config.name, root, config.notify),
        "on_failure_callback": FailureNotice(config.notify, root),
    }

    def task(name: str, **more: Any) -> Any:
        return OPERATORS[name](task_id=name, doc_md=explanations.TASKS[name], **common, **more)

    with DAG(config.name, **_settings(config)) as dag:
        start = task("start")
        with _group("data"):
            ingest = task("ingest")
            validate = task("validate")
            transform = task("transform")
        with _group("training"):
            train = task("train", priority_weight=2)
            evaluate = task("evaluate")
            bless = task("bless")
        with _group("delivery"):
            optimize = task("optimize")
            package = task("package", trigger_rule=AFTER_A_SKIP)
            canary = task("canary")
            approval = [task("approve")] if config.deploy.requires_approval else []
            promote = task("promote", model=Asset(f"slipway://{config.name}/model"))

        start >> ingest >> validate >> transform >> [train, evaluate] >> bless
        bless >> Label("blessed") >> optimize >> package >> canary
        start >> Label("deploy a kept version again") >> package
        chain(canary, Label("passed"), *approval, promote)
        if RUNTIME.max_parallel_components == 1:
            train >> evaluate
    # Only now: each task would get a copy, and Airflow checks every copy (4 s for 50 pipelines).
    # And not by assignment, which would check again, for every DAG, what has passed above.
    object.__setattr__(dag, "params", ParamsDict(form(config, RUNTIME.runs.overrides)))
    return dag


# `package` follows either `optimize` or, where a version is deployed again, `start` alone.
AFTER_A_SKIP = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS


def _settings(config: PipelineConfig) -> dict[str, Any]:
    return {
        "description": config.description,
        "doc_md": explanations.of_pipeline(config),
        "schedule": _schedule(config.schedule, Asset(f"slipway://{config.name}/labels")),
        "start_date": BEGINNING,
        "catchup": False,
        "max_active_runs": 1,  # the next run is compared with what this one puts into service
        "max_active_tasks": RUNTIME.max_parallel_components,
        "tags": ["slipway"],
        "default_args": {
            "retries": config.schedule.retries,
            "retry_delay": timedelta(seconds=config.schedule.retry_delay_seconds),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": LONGEST_RETRY_DELAY,
            "execution_timeout": timedelta(seconds=config.schedule.timeout_seconds),
        },
    }


def _schedule(schedule: ScheduleConfig, labels: Asset) -> Any:
    """Return Airflow's schedule: by the clock, by new labels, by both or (None) by hand only."""
    timetable = CronTriggerTimetable(schedule.cron, timezone="UTC") if schedule.cron else None
    if timetable and schedule.on_new_labels:
        return AssetOrTimeSchedule(timetable=timetable, assets=[labels])
    return timetable or ([labels] if schedule.on_new_labels else None)


def _group(name: str) -> TaskGroup:
    explanation = explanations.GROUPS[name]
    return TaskGroup(name, prefix_group_id=False, tooltip=explanation, doc_md=explanation)


# The process of a task needs only the DAG of its pipeline.
wanted = get_parsing_context().dag_id
for name, folder in pipeline_folders().items():
    if wanted in (None, name):
        with contextlib.suppress(UserError):
            pipeline_dag(load_pipeline(folder))
