"""Online accuracy of declared slices and of one of several heads, and the run that may follow."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner, Result

from cli.labels.accuracy import accuracy_range
from cli.labels.agreement import slices_of
from cli.main import app
from cli.stack.stack_file import artifact_root
from components.deploy.judging.accuracy import Figures
from contract.layout import PipelineLayout
from contract.loader import load_pipeline, state_folder
from contract.pipelines import find_pipeline
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.package import InputSpec
from contract.records.traffic import Arm, TrafficPlan
from contract.schema.data import FeatureConfig
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.exchange import import_answers
from serving.labels.store.questions import add_questions, topic_id
from serving.labels.store.records import NewQuestion, Question, Topic

NAME = "shops"
NOW = datetime(2025, 11, 29, 15, 20, tzinfo=UTC)
CLASSES = ("no", "yes")
PEOPLE = ("ada", "bob")
# Rows by site: how many, how many of them wrong, and the probability of their choice.
SITES = {"north": (40, 4, 0.5), "south": (40, 30, 0.25)}


def slipway(*words: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["labels", *words])
    assert result.exit_code == exit_code, result.stderr
    return result


def configure(folder: Path, **labels: Any) -> None:
    path = folder / NAME / "pipeline.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"task": "binary_classification", "classes": list(CLASSES)}
    config = {
        "name": NAME,
        "features": {"x": {"dtype": "float32"}, "site": {"dtype": "string"}},
        "heads": {"sold": head},
        "ingest": {"source": {"kind": "csv", "files": ["rows.csv"]}},
        "evaluate": {"slices": ["site"]},
        "serve": {"prediction_log_inputs_ratio": 1.0},
        "labels": {"people": 2, "min_labels": 300, **labels},
    }
    path.write_text(yaml.safe_dump(config))
    (path.parent / "model.py").write_text("")
    (path.parent / "preprocessing.py").write_text("")


@pytest.fixture
def pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pipelines"
    configure(folder)
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder))
    return folder


@pytest.fixture
def layout(pipelines: Path) -> PipelineLayout:
    """A version in service whose answers are 'yes', and people who have said what is true."""
    layout = PipelineLayout(artifact_root(), NAME)
    arm = Arm(name="stable", version=1, weight_percent=100)
    TrafficPlan(pipeline=NAME, arms=(arm,)).write(layout.traffic_plan)
    config = load_pipeline(find_pipeline(NAME))
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    rows, questions, said = list[dict[str, Any]](), list[NewQuestion](), list[Any]()
    for site, (count, wrong, probability) in SITES.items():
        for n in range(count):
            request, x = f"{site}{n}", float(len(rows))
            rows.append(
                {
                    **{"time": NOW + timedelta(seconds=n), "request_id": request, "row": 0},
                    **{"version": 1, "arm": "stable", "signature": "predict", "status": 200},
                    **{"latency_seconds": 0.001, "predicted:sold": 1, "confidence:sold": 0.6},
                    **{"scores:sold": [0.4, 0.6], "input:x": x, "input:site": site.encode()},
                }
            )
            inputs, guesses = {"x": x, "site": site}, (("yes", 0.6), ("no", 0.4))
            questions.append(NewQuestion(request, 0, inputs, guesses, 1, probability))
            label = "no" if n < wrong else "yes"
            said += [(request, 0, who, label) for who in PEOPLE]
    table = pa.Table.from_pylist(rows, log_schema(config.heads, specs))
    write_rows(LogFile(hour_of(NOW), "h-1-a", 0, len(rows), layout.predictions(1)), table)
    features: dict[str, Any] = {"x": {"shape": []}, "site": {"shape": []}}
    add_questions(store(), Topic(NAME, "sold", CLASSES, features), questions, 2)
    import_answers(store(), topic_id(store(), NAME), said, NOW.timestamp())
    return layout


def store() -> Database:
    return Database(sqlite_url(state_folder() / "labels.db"))


def accuracy() -> dict[str, Any]:
    (found,) = json.loads(slipway("accuracy", NAME, "--json").stdout)
    return dict(found)


def test_each_slice_has_its_accuracy_with_a_range_for_all_of_them_together(
    layout: PipelineLayout,
) -> None:
    found = accuracy()
    # by hand: 36 rows that stand for 2 each and 10 for 4, of 40 * 2 + 40 * 4
    assert found["accuracy"] == pytest.approx((36 * 2 + 10 * 4) / (40 * 2 + 40 * 4), abs=1e-6)
    assert {*found["slices"]} == {"site=north", "site=south"}
    north, south = found["slices"]["site=north"], found["slices"]["site=south"]
    assert (north["requests"], north["accuracy"]) == (40, 0.9)
    assert (south["requests"], south["accuracy"]) == (40, 0.25)
    # of two values each range is wrong half as often; equal weights are Wilson's range
    figures = Figures(np.repeat([1.0, 0.0], [36, 4]), np.ones(40))
    error = load_pipeline(find_pipeline(NAME)).deploy.alpha
    assert (north["low"], north["high"]) == accuracy_range(figures, error / 2)
    told = " ".join(slipway("accuracy", NAME).stderr.split())
    assert "version 1, site=south: right in 25.0% of 40 labelled requests" in told


def test_weights_differ_within_a_slice(layout: PipelineLayout) -> None:
    """By a second computation: the ratio estimator of Hajek over the rows of the slice."""
    said, probabilities = [], [0.1, 0.5, 1.0]
    config = load_pipeline(find_pipeline(NAME))
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    rows, questions, topic = [], [], topic_id(store(), NAME)
    for n in range(30):
        rows.append(
            {
                **{"time": NOW, "request_id": f"east{n}", "row": 0, "version": 1, "arm": "stable"},
                **{"signature": "predict", "status": 200, "latency_seconds": 0.001},
                **{"predicted:sold": n % 2, "confidence:sold": 0.6, "scores:sold": [0.4, 0.6]},
                **{"input:x": 1000.0 + n, "input:site": b"east"},
            }
        )
        inputs = {"x": 1000.0 + n, "site": "east"}
        questions.append(NewQuestion(f"east{n}", 0, inputs, (), 1, probabilities[n % 3]))
        said += [(f"east{n}", 0, who, "yes") for who in PEOPLE]
    table = pa.Table.from_pylist(rows, log_schema(config.heads, specs))
    write_rows(LogFile(hour_of(NOW), "h-1-b", 0, len(rows), layout.predictions(1)), table)
    add_questions(store(), topic[1], questions, 2)
    import_answers(store(), topic, said, NOW.timestamp())
    weights = np.array([1 / probabilities[n % 3] for n in range(30)])
    right = np.arange(30) % 2
    found = accuracy()["slices"]["site=east"]
    assert found["accuracy"] == pytest.approx((weights @ right) / weights.sum(), abs=1e-6)


@pytest.mark.parametrize(
    ("wanted", "below"),
    [
        ({"site": 0.6}, ["site=south"]),
        ({"site=south": 0.6}, ["site=south"]),
        ({"site=north": 0.6}, []),
        ({"site": 0.6, "site=south": 0.1}, []),  # the value's own says more
    ],
)
def test_a_slice_below_its_bound_starts_a_run_by_a_tenth_of_the_labels(
    layout: PipelineLayout, pipelines: Path, wanted: dict[str, float], below: list[str]
) -> None:
    configure(pipelines, min_slice_accuracy=wanted, min_confidence=0.5)
    found = json.loads(slipway("loop", NAME, "--only", "learn", "--json").stdout)["learn"]
    assert (found["is_below"], found["below_slices"]) == (bool(below), below)
    assert found["added"] == (80 if below else 0)  # of 300, or of 30
    if below:
        told = " ".join(slipway("loop", NAME, "--only", "learn").stderr.split())
        assert "version 1, site=south: below labels.min_slice_accuracy" in told
        assert "site=north" not in told


def test_a_bound_of_a_feature_that_is_no_slice_is_refused(pipelines: Path) -> None:
    configure(pipelines, min_slice_accuracy={"region=north": 0.6})
    refused = " ".join(slipway("accuracy", NAME, exit_code=2).stderr.split())
    assert "min_slice_accuracy: 'region=north' is not of a feature in evaluate.slices" in refused


def test_another_head_that_people_were_asked_about_is_measured_by_its_name(
    layout: PipelineLayout,
) -> None:
    head = Topic(NAME, "returned", CLASSES, {"x": {"shape": []}})
    add_questions(store(), head, [NewQuestion("north0", 0, {"x": 0.0}, (), 1)], 2)
    refused = " ".join(slipway("accuracy", NAME, exit_code=2).stderr.split())
    assert "(heads: " in refused and "sold" in refused and "returned" in refused
    shown = json.loads(slipway("accuracy", NAME, "--head", "sold", "--json").stdout)
    assert shown[0]["requests"] == 80


def test_slices_are_named_as_in_the_data() -> None:
    """`transform` casts values to text by Arrow; `evaluate` marks text that is not UTF-8."""
    features = {
        "level": FeatureConfig(dtype="int64", default=7),
        "size": FeatureConfig(dtype="float32"),
        "site": FeatureConfig(dtype="string"),
    }
    values: list[dict[str, Any]] = [
        {"level": 3, "size": 2.0, "site": "north"},
        {"level": None, "size": 0.1, "site": {"base64": "/w=="}},
        {},
    ]
    asked = [
        Question(n, f"q{n}", 0, one, (), 1, 1.0, 0.0, False, 1) for n, one in enumerate(values)
    ]
    found = [list(names) for names in slices_of(asked, features).values()]
    assert found == [
        ["level=3", "size=2", "site=north"],
        ["level=7", "size=0.1", "site=\ufffd"],
        ["level=7", "size=", "site="],
    ]
