"""A pipeline on the digits whose label loop turns by its command."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from typer.testing import CliRunner, Result

from cli.main import app
from contract.layout import PipelineLayout
from contract.loader import load_pipeline, state_folder
from contract.pipelines import find_pipeline
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.package import InputSpec
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.exchange import import_answers, stored_questions
from serving.labels.store.questions import topic_id

NAME = "looping"
NOW = datetime(2025, 11, 29, 15, 20, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
CLASSES = 10
PEOPLE = ("ada", "bob")
# of twenty or thirty rows all are chosen, some of them perhaps by the audit
WISH = {"budget": 500, "audit_ratio": 0.01, "people": 2, "min_labels": 12}


def slipway(*words: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["labels", *words])
    assert result.exit_code == exit_code, result.stderr
    return result


def turn(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(slipway("loop", NAME, "--json", *words).stdout)
    return found


def configure(folder: Path, **labels: Any) -> None:
    path = folder / NAME / "pipeline.yaml"
    config = yaml.safe_load((find_pipeline("digits") / "pipeline.yaml").read_text())
    config |= {"name": NAME, "serve": {"prediction_log_inputs_ratio": 1.0}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**config, "labels": {**WISH, **labels}}))


def log_rows(
    layout: PipelineLayout,
    server: str,
    count: int,
    first: datetime,
    wrong: int = 0,
    version: int = 1,
    like: str = "",
) -> None:
    """Log rows a second apart, whose first pixel is the digit; some are predicted wrongly.

    The pictures are those of the server that is named in `like`.
    """
    config = load_pipeline(find_pipeline(NAME))
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    rows, random = [], np.random.default_rng(ord(like or server))
    for n in range(count):
        predicted = (n + 1) % 10 if n < wrong else n % 10
        score = 0.6 if n % 2 else 0.9
        scores = np.full(CLASSES, (1 - score) / 9)
        scores[predicted] = score
        image = random.uniform(0, 16, (8, 8)).astype(np.float32)  # no two rows are alike
        image[0, 0] = n % 10
        rows.append(
            {
                **{"time": first + timedelta(seconds=n), "request_id": f"{server}{n}", "row": 0},
                **{"version": version, "arm": "stable", "signature": "predict", "status": 200},
                **{"latency_seconds": 0.001, "predicted:digit": predicted},
                **{"confidence:digit": score, "scores:digit": scores.tolist()},
                "input:image": image.tolist(),
            }
        )
    table = pa.Table.from_pylist(rows, log_schema(config.heads, specs))
    file = LogFile(hour_of(first), f"h-1-{server}", 0, count, layout.predictions(version))
    write_rows(file, table)


def database() -> Database:
    return Database(sqlite_url(state_folder() / "labels.db"))


def answer_all(who: str, most: int = 1_000) -> int:
    """Answer the first questions as their first pixels say; return how many."""
    store = database()
    topic = topic_id(store, NAME)
    said = [
        (one.request_id, one.row, who, str(int(one.inputs["image"][0][0])))
        for one in [*stored_questions(store, topic[0])][:most]
    ]
    return import_answers(store, topic, said, NOW.timestamp()).added


def asked() -> dict[str, bool]:
    """Return the requests that are asked about, and whether they are audited."""
    store = database()
    topic, _ = topic_id(store, NAME)
    return {one.request_id: one.is_audit for one in stored_questions(store, topic)}
