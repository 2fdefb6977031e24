"""A turn of the label loop that rolls a version back, with a real agent."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from contract.loader import load_pipeline
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.label_loop import LabelLoopRecord
from contract.records.stack import Stack as StackRecord
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.exchange import import_answers
from serving.labels.store.questions import add_questions, topic_id
from serving.labels.store.records import NewQuestion, Topic

ROWS = 60
CONFIG = """
name: digits
features:
  x: { dtype: float32 }
heads:
  digit: { task: multiclass_classification, classes: ["0", "1"] }
ingest:
  source: { kind: csv, files: [x.csv] }
serve:
  prediction_log_inputs_ratio: 1.0
labels: { people: 1, min_answers: 1, rolls_back: true }
"""


def label(stack: Any, pipeline: Path, database: Path, version: int, truth: str) -> None:
    """Log rows for which a version has predicted '0', and let Ada say what is true of each."""
    now = datetime.now(UTC) - timedelta(hours=1)
    ids = [f"v{version}-{number}" for number in range(ROWS)]
    logged = {"row": 0, "version": version, "arm": "stable", "signature": "predict", "status": 200}
    logged |= {"time": now, "latency_seconds": 0.001, "predicted:digit": 0}
    table = pa.Table.from_pylist(
        [{**logged, "request_id": one} for one in ids], log_schema(load_pipeline(pipeline).heads)
    )
    file = LogFile(hour_of(now), "h-1-a", 0, ROWS, stack.layout.predictions(version))
    write_rows(file, table)
    store = Database(sqlite_url(database))
    asked = [NewQuestion(one, 0, {}, version=version, audit_probability=1.0) for one in ids]
    add_questions(store, Topic("digits", "digit", ("0", "1"), {}), asked, 1)
    said = [(one, 0, "ada", truth) for one in ids]
    import_answers(store, topic_id(store, "digits"), said, now.timestamp())


@pytest.fixture
def home(tmp_path: Path, stack: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that knows the agent; of version 1 all is right, of version 2 nothing."""
    home, pipeline = tmp_path / "cli-home", tmp_path / "pipelines" / "digits"
    pipeline.mkdir(parents=True)
    (pipeline / "pipeline.yaml").write_text(CONFIG)
    StackRecord(
        root=str(stack.layout.root),
        agent_url=f"http://127.0.0.1:{stack.settings.port}",
        agent_token_file=str(stack.settings.token_file),
    ).write(home / "stack.json")
    for name, folder in {"SLIPWAY_HOME": home, "SLIPWAY_PIPELINES": pipeline.parent}.items():
        monkeypatch.setenv(name, str(folder))
    for version, truth in {1: "0", 2: "1"}.items():
        stack.package(version)
        stack.serve({version: 100}, standby=(1,) if version == 2 else ())
        label(stack, pipeline, home / "labels.db", version, truth)
    return home


def learn(exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["labels", "loop", "digits", "--only", "learn", "--json"])
    assert result.exit_code == exit_code, result.output
    return result


def test_what_people_find_worse_is_rolled_back_with_the_reason_and_only_once(
    stack: Any, home: Path
) -> None:
    agent = StackRecord.read(home / "stack.json")
    agent.model_copy(update={"agent_token_file": str(home / "none")}).write(home / "stack.json")
    learn(exit_code=2)  # the agent lets nobody in without a token: nothing of the turn is lost
    assert LabelLoopRecord.read(stack.layout.label_loop).is_worse
    assert stack.client.plan("digits").champion == 2

    agent.write(home / "stack.json")
    said = json.loads(learn().stdout)
    assert [one["version"] for one in said["rollback"]["arms"]] == [1]
    found = said["learn"]
    assert found["verdict"].startswith("digit: version 2 is right in 0.0% of 60 labelled requests")
    plan = stack.client.plan("digits")
    mark = plan.mark_of(2)
    assert (plan.champion, plan.author) == (1, "the label loop")
    assert mark is not None
    assert plan.reason == mark.reason == f"rolled back by labels: {found['verdict']}"

    again = json.loads(learn().stdout)["learn"]
    assert (again["verdict"], again["is_worse"]) == ("", False)  # nothing was before version 1
    assert stack.client.plan("digits") == plan
