"""The DAGs as Airflow reads them, in a process of their own: what is imported is seen there."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.schema.runtime import RuntimeConfig
from contract.steps import STEPS, stages

ROOT = Path(__file__).resolve().parents[3]
MINIMAL: dict[str, Any] = {
    "features": {"size": {"dtype": "float32"}},
    "heads": {"label": {"task": "binary_classification", "classes": ["a", "b"]}},
    "ingest": {"source": {"kind": "sklearn", "dataset": "iris"}},
}
READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
print(json.dumps({
    "dags": {dag_id: DagSerialization.to_dict(dag)["dag"] for dag_id, dag in bag.dags.items()},
    "errors": bag.import_errors,
    "heavy": sorted({"tensorflow", "apache_beam", "mlflow", "keras", "numpy"} & sys.modules.keys()),
}))
"""

PIPELINES: dict[str, dict[str, Any]] = {
    "plain": {},
    "described": {"description": "Which shoe?", "schedule": {"cron": "5 4 * * *"}},
    "approved": {"deploy": {"requires_approval": True}},
    "patient": {"schedule": {"retries": 4, "retry_delay_seconds": 2.5, "timeout_seconds": 90.0}},
    "clock_and_labels": {"schedule": {"cron": "5 4 * * *", "on_new_labels": True}},
    "clock": {"schedule": {"cron": "5 4 * * *", "on_new_labels": False}},
    "labels": {"schedule": {"on_new_labels": True}},
    "by_hand": {"schedule": {"on_new_labels": False}},
    "looping": {
        "serve": {"prediction_log_inputs_ratio": 0.1},
        "labels": {"cron": "*/10 * * * *", "min_labels": 50},
    },
    "looping_by_hand": {"serve": {"prediction_log_inputs_ratio": 0.1}, "labels": {}},
    "broken": {"train": {"learnin_rate": 0.1, "steps": 0}},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow makes of the DAG folder with all these pipelines, read once."""
    home = tmp_path_factory.mktemp("airflow")
    for name, changes in PIPELINES.items():
        folder = home / "pipelines" / name
        folder.mkdir(parents=True)
        config = {"name": name, **MINIMAL, **changes}
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
    parents = f"{home / 'pipelines'}:{home / 'nowhere'}"
    own = {"SLIPWAY_PIPELINES": parents, "AIRFLOW_HOME": str(home)}
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
    environment["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"
    done = subprocess.run(
        [sys.executable, "-c", READ, str(ROOT / "dags")],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read


def tasks(dag: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}


def edges(dag: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (name, after)
        for name, task in tasks(dag).items()
        for after in task.get("downstream_task_ids", ())
    }


def test_each_pipeline_is_a_dag_of_its_steps_in_order(found: dict[str, Any]) -> None:
    loops = {"looping.labels", "looping_by_hand.labels"}
    expected = {"digits", "census", "mnist", *PIPELINES} - {"broken"} | loops
    assert expected == found["dags"].keys()
    chain = ["start", "ingest", "validate", "transform", "train", "bless"]
    chain += ["optimize", "package", "canary"]
    common = {*itertools.pairwise(chain), ("start", "package")}
    common |= {("transform", "evaluate"), ("evaluate", "bless")}
    assert edges(found["dags"]["plain"]) == common | {("canary", "promote")}
    gated = common | {("canary", "approve"), ("approve", "promote")}
    assert edges(found["dags"]["approved"]) == gated


def test_the_chain_is_that_of_the_table_of_steps(found: dict[str, Any]) -> None:
    between = set[tuple[str, str]]()
    for first, second in itertools.pairwise(stages()):
        between |= set(itertools.product(first, second))
    steps = {(a, b) for a, b in edges(found["dags"]["plain"]) if a in STEPS}
    assert steps == between


def test_reading_the_dags_imports_nothing_heavy(found: dict[str, Any]) -> None:
    assert found["heavy"] == []


def test_what_the_config_says_of_retries_and_time_holds_for_each_task(
    found: dict[str, Any],
) -> None:
    for task in tasks(found["dags"]["patient"]).values():
        assert (task["retries"], task["retry_delay"], task["execution_timeout"]) == (4, 2.5, 90.0)
        assert task["retry_exponential_backoff"] == 2.0


def test_a_person_may_take_longer_than_a_component(found: dict[str, Any]) -> None:
    assert tasks(found["dags"]["approved"])["approve"].get("execution_timeout") is None


@pytest.mark.parametrize(
    ("pipeline", "timetable", "has_clock", "has_labels"),
    [
        ("clock_and_labels", "AssetOrTimeSchedule", True, True),
        ("clock", "CronTriggerTimetable", True, False),
        ("labels", "AssetTriggeredTimetable", False, True),
        ("by_hand", "NullTimetable", False, False),
    ],
)
def test_the_schedule_is_the_clock_new_labels_both_or_neither(
    pipeline: str, timetable: str, has_clock: bool, has_labels: bool, found: dict[str, Any]
) -> None:
    dag = found["dags"][pipeline]
    assert dag["timetable"]["__type"].endswith(timetable)
    text = json.dumps(dag["timetable"])
    assert ("5 4 * * *" in text) == has_clock
    assert (f"slipway://{pipeline}/labels" in text) == has_labels
    assert dag.get("catchup", False) is False


def test_a_broken_pipeline_is_named_with_its_problems_and_spares_the_others(
    found: dict[str, Any],
) -> None:
    ((file, error),) = found["errors"].items()
    assert file.endswith("pipeline_errors.py")
    assert "broken/pipeline.yaml: train.learnin_rate: unknown key; did you mean" in error
    assert "broken/pipeline.yaml: train.steps" in error
    assert "nowhere: no such folder; expected a folder of pipeline folders" in error


def test_the_page_and_the_tasks_explain_the_run(found: dict[str, Any]) -> None:
    dag = found["dags"]["described"]
    assert "Which shoe?" in dag["doc_md"]
    assert "by the schedule `5 4 * * *` (UTC) if something has changed" in dag["doc_md"]
    assert all(task.get("doc_md") for task in tasks(dag).values())
    groups = {name for name, kind in dag["task_group"]["children"].items() if "taskgroup" in kind}
    assert groups == {"data", "training", "delivery"}


def test_a_label_loop_is_a_dag_whose_last_task_announces_by_the_asset_of_the_pipeline(
    found: dict[str, Any],
) -> None:
    dag = found["dags"]["looping.labels"]
    assert edges(dag) == {("learn", "announce")}  # a failed harvest stops neither
    asset = "slipway://looping/labels"
    inlets, outlets = (json.dumps(tasks(dag)["announce"][side]) for side in ("inlets", "outlets"))
    assert f'"{asset}"' in inlets
    assert "AssetAlias" in outlets or "asset_alias" in outlets  # a plain outlet would always emit
    assert f'"{asset}"' in json.dumps(found["dags"]["looping"]["timetable"])
    assert dag["max_active_runs"] == 1 and dag.get("catchup", False) is False
    assert "50 new labels start a run of" in dag["doc_md"]
    assert all(task.get("doc_md") for task in tasks(dag).values())


def test_a_label_loop_turns_by_its_own_clock_or_by_hand(found: dict[str, Any]) -> None:
    timetable = found["dags"]["looping.labels"]["timetable"]
    assert timetable["__type"].endswith("CronTriggerTimetable")
    assert "*/10 * * * *" in json.dumps(timetable)
    by_hand = found["dags"]["looping_by_hand.labels"]["timetable"]
    assert by_hand["__type"].endswith("NullTimetable")


def test_a_machine_for_one_component_at_a_time_evaluates_after_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Side by side, an evaluation that got the one place first would wait for ever."""
    from dags import pipelines

    config = load_pipeline(find_pipeline("digits"))
    assert "evaluate" not in pipelines.pipeline_dag(config).get_task("train").downstream_task_ids
    monkeypatch.setattr(pipelines, "RUNTIME", RuntimeConfig(max_parallel_components=1))
    dag = pipelines.pipeline_dag(config)
    assert "evaluate" in dag.get_task("train").downstream_task_ids
    assert dag.max_active_tasks == 1
