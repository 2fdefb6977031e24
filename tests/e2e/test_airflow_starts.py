"""All ways to start a run, and what is refused, on the real scheduler with the real components."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow_stack import AirflowStack
from sklearn.datasets import load_digits

from contract.freshness import Fingerprint
from contract.loader import load_frozen
from contract.records.data import IngestRecord
from contract.records.evaluation import BlessRecord
from contract.records.record import Result
from contract.storage import exclusive_lock

pytestmark = pytest.mark.long

AFTER_BLESS = {"optimize", "package", "canary", "promote"}
BEFORE_BLESS = {"ingest", "validate", "transform", "train", "evaluate"}


@pytest.fixture(scope="module", autouse=True)
def _ticking(airflow_stack: AirflowStack) -> None:
    """Start a pipeline that runs each minute; its two runs come while other tests go on."""
    airflow_stack.add("ticking", schedule={"cron": "* * * * *"})


def test_a_run_by_hand_with_overrides_ends_well_where_the_model_is_refused(
    airflow_stack: AirflowStack,
) -> None:
    stack = airflow_stack
    stack.add("by_hand", notify={"webhook_connection": "slipway_hook"})
    conf = {"training_steps": 40, "overrides": {"train.checkpoint_every_steps": 20}}
    stack.trigger("by_hand", "hand-1", conf).raise_for_status()
    assert stack.await_end("by_hand", "hand-1") == "success"

    states = stack.states("by_hand", "hand-1")
    assert {states[step] for step in (*BEFORE_BLESS, "start", "bless")} == {"success"}
    assert {states[step] for step in AFTER_BLESS} == {"skipped"}
    run = stack.layout("by_hand", "hand-1")
    assert load_frozen(run).train.steps == 40
    verdict = Result.read(run.result("bless")).detail_as(BlessRecord)
    assert not verdict.is_blessed
    log = stack.log("by_hand", "hand-1", "bless")
    assert "Slipway: by_hand refused at bless (run hand-1)" in log
    assert verdict.reasons[0] in log
    (notice,) = stack.heard
    assert (notice["kind"], notice["pipeline"], notice["step"]) == ("refused", "by_hand", "bless")
    assert verdict.reasons[0] in notice["text"]
    assert "step 40" in stack.log("by_hand", "hand-1", "train")  # the component's own lines
    for step in (*BEFORE_BLESS, "bless"):  # else each would import TensorFlow, and nobody notice
        assert "started as a fresh process" not in stack.log("by_hand", "hand-1", step)
    note = stack.get("/dags/by_hand/dagRuns/hand-1")["note"]
    assert note.startswith("**not blessed**")
    assert verdict.reasons[0] in note


def test_wrong_wishes_are_refused_before_anything_runs(airflow_stack: AirflowStack) -> None:
    stack = airflow_stack
    stack.add("wishful")
    wrong_type = stack.trigger("wishful", "bad-type", {"training_steps": "many"})
    assert wrong_type.status_code == 400
    assert "training_steps" in wrong_type.text

    wishes = {
        "bad-override": ({"overrides": {"train.stepz": 5}}, "train.stepz: unknown key; did you"),
        "bad-value": ({"overrides": {"train.steps": 0}}, "train.steps: Input should be greater"),
        "shell": (
            {"overrides": {"ingest.beam": {"options": ["--environment_type=PROCESS"]}}},
            "overrides: ingest.beam.options: a run started in Airflow may not change it",
        ),
        "other-data": ({"overrides": {"ingest.source.files": ["/etc/shadow"]}}, "ingest.source."),
        "lower-bar": ({"overrides": {"bless.margin": 1.0}}, "bless.margin: a run started in"),
        "bad-key": ({"overides": {}}, "overides: unknown key; did you mean 'overrides'?"),
        "bad-version": ({"redeploy_version": 9}, "version 9 is not kept (kept: none)"),
    }
    for run_id, (conf, _) in wishes.items():
        stack.trigger("wishful", run_id, conf).raise_for_status()
    for run_id, (_, complaint) in wishes.items():
        assert stack.await_end("wishful", run_id) == "failed"
        states = stack.states("wishful", run_id)
        assert states.pop("start") == "failed"
        assert set(states.values()) == {"upstream_failed"}
        assert stack.task("wishful", run_id, "start")["try_number"] == 1
        assert complaint in stack.log("wishful", run_id, "start")


def test_a_users_mistake_is_not_retried(airflow_stack: AirflowStack) -> None:
    stack = airflow_stack
    stack.add("mistaken", ingest={"source": {"kind": "csv", "files": ["/nowhere/rows.csv"]}})
    stack.trigger("mistaken", "lost", {}).raise_for_status()
    assert stack.await_end("mistaken", "lost") == "failed"
    ingest = stack.task("mistaken", "lost", "ingest")
    assert (ingest["state"], ingest["try_number"], ingest["max_tries"]) == ("failed", 1, 2)
    log = stack.log("mistaken", "lost", "ingest")
    assert "/nowhere/rows.csv" in log
    assert "Slipway: mistaken failed at ingest (run lost)" in log


def test_a_task_that_takes_too_long_is_ended(airflow_stack: AirflowStack) -> None:
    stack = airflow_stack
    stack.add("slow", schedule={"timeout_seconds": 0.5, "retries": 0})
    stack.trigger("slow", "run-1", {}).raise_for_status()
    assert stack.await_end("slow", "run-1") == "failed"
    ingest = stack.task("slow", "run-1", "ingest")
    assert (ingest["state"], ingest["try_number"]) == ("failed", 1)
    assert 0.5 <= ingest["duration"] < 60.0
    assert "Timeout" in stack.log("slow", "run-1", "ingest")
    with exclusive_lock(stack.layout("slow", "run-1").process_lock("ingest")):
        pass  # a process of the step that still lived would hold it


def test_new_labels_start_a_run_that_reads_them(
    airflow_stack: AirflowStack, tmp_path: Path
) -> None:
    stack = airflow_stack
    stack.add("labelled")
    digits = load_digits()
    labelled = [(digits.images[0], 9), (np.zeros((8, 8)), 1)]  # known by another label; new
    rows = [f"{' '.join(map(str, image.ravel()))},{label}" for image, label in labelled]
    file = tmp_path / "new.csv"
    file.write_text("\n".join(["image,label", *rows]))
    added = stack.slipway("labels", "add", "labelled", str(file), "--json")
    assert (added["added"], added["corrected"], added["bad"]) == (2, 0, [])
    assert added["announcement"].startswith("announced to Airflow")

    stack.wait(lambda: stack.runs("labelled"), 600)
    (run,) = stack.runs("labelled")
    assert run["run_type"] == "asset_triggered"
    assert stack.await_end("labelled", run["dag_run_id"]) == "success"
    assert stack.states("labelled", run["dag_run_id"])["bless"] == "success"
    layout = stack.layout("labelled", run["dag_run_id"])
    assert Fingerprint.read(layout.fingerprint).data == {"digits": "shipped with a library"}
    ingested = Result.read(layout.result("ingest")).detail_as(IngestRecord)
    assert ingested.label_deltas == (Path(added["delta"]).name,)
    assert ingested.replaced_rows == 1
    assert sum(ingested.examples.values()) == len(digits.images) + 1


def test_a_scheduled_run_without_news_skips_everything(airflow_stack: AirflowStack) -> None:
    stack = airflow_stack

    def ended() -> list[dict[str, Any]]:
        runs = [r for r in stack.runs("ticking") if r["state"] in ("success", "failed")]
        return sorted(runs, key=lambda run: str(run["run_after"]))

    stack.wait(lambda: len(ended()) >= 2, 600)
    stack.pause("ticking")
    first, second = ended()[:2]
    assert {run["run_type"] for run in (first, second)} == {"scheduled"}
    assert {run["state"] for run in (first, second)} == {"success"}
    assert stack.states("ticking", first["dag_run_id"])["bless"] == "success"
    states = stack.states("ticking", second["dag_run_id"])
    assert states.pop("start") == "success"
    assert set(states.values()) == {"skipped"}
    said = stack.log("ticking", second["dag_run_id"], "start")
    folder = stack.layout("ticking", first["dag_run_id"]).path.name
    assert f"Nothing has changed since run {folder}" in said
    assert not stack.layout("ticking", second["dag_run_id"]).path.exists()
