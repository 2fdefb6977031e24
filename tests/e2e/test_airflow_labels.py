"""The label loop in real Airflow: what people answer over HTTP starts a run, once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from airflow_stack import AirflowStack
from sklearn.datasets import load_digits

from cli.demo.labellers import Labeller, label_page
from contract.loader import load_pipeline
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.data import IngestRecord
from contract.records.label_loop import HarvestRecord, LabelLoopRecord
from contract.records.package import InputSpec
from contract.records.record import Result

pytestmark = pytest.mark.long

NAME, LOOP = "looping", "looping.labels"
SECONDS = 600  # that anything may take on a busy machine
ANSWERED = datetime(2025, 11, 29, 15, tzinfo=UTC)
DIGITS = load_digits()
CLASSES = [str(digit) for digit in range(10)]
PEOPLE = (Labeller("ada", 1.0), Labeller("bob", 1.0))


def log_rows(stack: AirflowStack, count: int) -> None:
    """Log the first digits as a server does that is unsure of them and has half of them wrong."""
    config = load_pipeline(stack.pipelines / NAME)
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    rows = []
    for n in range(count):
        predicted = int(DIGITS.target[n]) if n % 2 else (int(DIGITS.target[n]) + 1) % 10
        scores = np.full(10, 0.05)
        scores[predicted] = 0.55
        rows.append(
            {
                **{"time": ANSWERED, "request_id": f"r{n}", "row": 0, "version": 1},
                **{"arm": "stable", "signature": "predict", "status": 200},
                **{"latency_seconds": 0.001, "predicted:digit": predicted},
                **{"confidence:digit": 0.55, "scores:digit": scores.tolist()},
                "input:image": DIGITS.images[n].astype(np.float32).tolist(),
            }
        )
    table = pa.Table.from_pylist(rows, log_schema(config.heads, specs))
    folder = stack.layout(NAME, "none").of_pipeline.predictions(1)
    write_rows(LogFile(hour_of(ANSWERED), "h-1-a", 0, count, folder), table)


def truth(inputs: Any) -> str:
    """Return which of the digits an image is."""
    differences = np.abs(DIGITS.images - np.array(inputs["image"])).sum(axis=(1, 2))
    return str(DIGITS.target[differences.argmin()])


def turn(stack: AirflowStack, run_id: str) -> dict[str, str]:
    """Run the loop's DAG once; return the states of its tasks."""
    stack.trigger(LOOP, run_id, {}).raise_for_status()
    ended = stack.await_end(LOOP, run_id, SECONDS)
    assert ended == "success", stack.states(LOOP, run_id)
    return stack.states(LOOP, run_id)


@pytest.mark.timeout(3000)
def test_labels_of_people_start_one_run_on_base_data_and_their_labels(
    airflow_stack: AirflowStack, tmp_path: Path
) -> None:
    stack = airflow_stack
    labels = {"budget": 40, "people": 2, "min_labels": 10, "audit_ratio": 0.1}
    stack.add(NAME, serve={"prediction_log_inputs_ratio": 1.0}, labels=labels)
    stack.wait(lambda: stack.call("GET", f"/dags/{LOOP}").is_success, SECONDS)
    log_rows(stack, 40)

    asking = turn(stack, "asking")
    assert asking == {"harvest": "success", "learn": "success", "announce": "skipped"}
    layout = stack.layout(NAME, "none").of_pipeline
    asked = HarvestRecord.read(layout.label_harvest).questions
    assert asked >= 30 and stack.runs(NAME) == []

    with label_page(PEOPLE, NAME, stack.environment, tmp_path / "page.log") as page:
        assert page.answer_all(NAME, PEOPLE, truth, CLASSES) == 2 * asked
    assert set(turn(stack, "learning").values()) == {"success"}
    learned = LabelLoopRecord.read(layout.label_loop)
    assert learned.added == learned.labels >= 10
    (version,) = learned.accuracy
    assert version.requests == asked and version.low < 0.5 < version.high  # half are wrong
    assert f"are new and stored as {learned.delta}" in stack.log(LOOP, "learning", "learn")
    note = stack.get(f"/dags/{LOOP}/dagRuns/learning")["note"]
    assert note.startswith(f"**{learned.added} new labels**") and "version 1 is right in" in note

    stack.wait(lambda: stack.runs(NAME), SECONDS)
    (run,) = stack.runs(NAME)
    assert run["run_type"] == "asset_triggered"
    run_id = run["dag_run_id"]
    ended = ("success", "failed", "upstream_failed")
    stack.wait(lambda: stack.states(NAME, run_id).get("ingest") in ended, SECONDS)
    ingested = Result.read(stack.layout(NAME, run_id).result("ingest"))
    record = ingested.detail_as(IngestRecord)
    assert record.label_deltas == (learned.delta,)
    assert record.replaced_rows == learned.added  # the base data has the same digits
    # what follows is as after 'slipway labels add' in test_airflow_starts
    stack.call("PATCH", f"/dags/{NAME}/dagRuns/{run_id}", json={"state": "failed"})

    again = turn(stack, "again")
    assert again == {"harvest": "success", "learn": "success", "announce": "skipped"}
    assert len(list(layout.label_deltas.glob("*.csv"))) == 1
    assert len(stack.runs(NAME)) == 1
