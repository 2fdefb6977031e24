"""The figures of the label demo, of a loop without Airflow: its parts are the real ones."""

import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from cli.demo import loop_report
from cli.demo.digit_rows import CLASSES, NAME, DigitRows, write_pipeline
from cli.demo.label_loop import PEOPLE
from cli.demo.loop_report import Looped
from cli.labels.loop import Loop
from cli.stack.stack_file import artifact_root
from contract.layout import PipelineLayout
from contract.loader import load_pipeline, state_folder
from contract.pipelines import find_pipeline
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.label_loop import HarvestRecord
from contract.records.package import InputSpec
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.exchange import import_answers, stored_questions
from serving.labels.store.questions import topic_id

NOW = datetime(2025, 11, 29, 15, tzinfo=UTC)
STREAM_ROWS = 400


@pytest.fixture(scope="module")
def rows() -> DigitRows:
    return DigitRows.load()


def log_stream(layout: PipelineLayout, rows: DigitRows) -> float:
    """Log what a model of the base rows answers to the stream; return how often it is right."""
    model = LogisticRegression().fit(rows.base[0].reshape(-1, 64) / 16, rows.base[1])
    images, labels = (part[:STREAM_ROWS] for part in rows.stream)
    scores = model.predict_proba(images.reshape(-1, 64) / 16).astype(np.float32)
    config = load_pipeline(find_pipeline(NAME))
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    found = [
        {
            **{"time": NOW, "request_id": f"r{n}", "row": 0, "version": 1, "arm": "stable"},
            **{"signature": "predict", "status": 200, "latency_seconds": 0.001},
            "predicted:digit": int(scores[n].argmax()),
            "confidence:digit": float(scores[n].max()),
            "scores:digit": scores[n].tolist(),
            "input:image": images[n].astype(np.float32).tolist(),
        }
        for n in range(STREAM_ROWS)
    ]
    table = pa.Table.from_pylist(found, log_schema(config.heads, specs))
    write_rows(LogFile(hour_of(NOW), "h-1-a", 0, STREAM_ROWS, layout.predictions(1)), table)
    return float((scores.argmax(axis=1) == labels).mean())


def answer_all(store: Database, rows: DigitRows) -> None:
    topic = topic_id(store, NAME)
    for one in PEOPLE:
        chance = random.Random(one.name)
        said = [
            (q.request_id, q.row, one.name, one.says(rows.truth(q.inputs), CLASSES, chance))
            for q in sorted(stored_questions(store, topic[0]), key=lambda q: q.request_id)
        ]
        import_answers(store, topic, said, NOW.timestamp())


def test_all_figures_of_a_loop_are_shown(
    rows: DigitRows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_pipeline(tmp_path, rows)
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(tmp_path))
    monkeypatch.setattr(loop_report, "_TWINS", 1)
    layout = PipelineLayout(artifact_root(), NAME)
    true = log_stream(layout, rows)
    store = Database(sqlite_url(state_folder() / "labels.db"))
    loop = Loop(layout, load_pipeline(find_pipeline(NAME)), store)
    later = NOW + timedelta(hours=1)
    HarvestRecord(until=later, seed=1).write(layout.label_harvest)  # else its seed is by chance
    asked = loop.harvest(later).questions
    answer_all(store, rows)
    learned = loop.learn(NOW + timedelta(hours=2))
    assert learned.added == learned.labels >= 25

    loop_report.show([Looped(0.5, 1), Looped(0.6, 2, learned.added, 90.0)], layout, rows)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(rf"1 \(version 2\) {learned.added} 60\.0% [\d.]+% [\d.]+% 1\.5 ", said), said
    wrong = re.search(r"Wrong labels of (\d+): (\d+) by consensus, (\d+) by majority", said)
    assert wrong and int(wrong[1]) == asked
    assert int(wrong[2]) <= int(wrong[3])
    bias = re.search(
        r"is right in ([\d.]+)% of .* labels: ([\d.]+)% with weights .*, ([\d.]+)% w", said
    )
    assert bias and float(bias[1]) == pytest.approx(100 * true, abs=0.06)
    assert float(bias[3]) < float(bias[2]), "unsure rows are wrong more often, and weigh less"
