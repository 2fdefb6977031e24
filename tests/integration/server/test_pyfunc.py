"""A registered version, loaded by MLflow, answers as the server does."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from components.runs.mlflow_models import register_package
from contract.errors import UserError
from contract.records.package import InputSpec
from contract.schema.data import HeadConfig
from serving.server.pyfunc import PackagedModel

WORDS = {
    "words": InputSpec(dtype="string", is_variable_length=True),
    "ids": InputSpec(dtype="int64", is_variable_length=True),
    "scale": InputSpec(dtype="float32", default=1.0),
}


@pytest.fixture
def registry(tmp_path: Path):
    """A registry in a file, and a run in it."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
    run = client.create_run(experiment)
    yield client, run.info.run_id
    mlflow.set_tracking_uri("")


def registered(registry, package: Path, name: str):
    client, run_id = registry
    client.create_registered_model(name)
    entry = register_package(client, run_id, package, "http://here/v1/models/x")
    client.set_registered_model_alias(name, "champion", entry.version)
    return client.get_model_version_by_alias(name, "champion")


def words_package(words_model, packed, folder: Path, rows=()) -> Path:
    package = packed(
        words_model,
        folder,
        pipeline="words",
        version=4,
        inputs=WORDS,
        heads={"count": HeadConfig(task="regression")},
        metrics={"count/mean_absolute_error": 0.25},
        examples="examples.jsonl" if rows else "",
    )
    (package / "examples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return package


def test_the_champion_is_loaded_by_its_alias_and_answers_as_the_server(
    registry, digits_package, digits_server
):
    registered(registry, digits_package, "digits")
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    images = np.random.default_rng(3).uniform(0, 16, (100, 64)).tolist()
    answer = digits_server.send("/v1/models/digits:predict", {"instances": images})
    found = model.predict(pd.DataFrame({"image": images}))
    np.testing.assert_allclose(found, answer[1]["predictions"], atol=1e-6)
    assert model.metadata.get_input_schema().to_dict() == [
        {
            "type": "array",
            "items": {"type": "double"},
            "name": "image",
            "required": True,
        }
    ]


def test_lists_text_and_defaults_are_answered_as_by_the_server(
    registry, words_model, packed, launch, tmp_path
):
    rows = [{"words": ["a", "b"], "ids": [1, 2], "scale": 4}, {"words": ["c"], "ids": [7]}]
    package = words_package(words_model, packed, tmp_path / "4", rows)
    server = launch("--package", package, "--port", 0)
    server.wait_ready()
    registered(registry, package, "words")
    model = mlflow.pyfunc.load_model("models:/words@champion")
    expected = server.send("/v1/models/words:predict", {"instances": rows})[1]["predictions"]
    assert expected == [7.0, 8.0]  # 2 words x 2 + 3; 1 word x 1 + 7
    assert model.predict(rows) == expected
    assert model.predict(model.input_example) == expected


def test_a_version_has_a_description_and_its_metrics(registry, words_model, packed, tmp_path):
    package = words_package(words_model, packed, tmp_path / "4")
    entry = registered(registry, package, "words")
    assert "Version 4 of pipeline `words`, made by run `r`" in entry.description
    assert "count/mean_absolute_error 0.25" in entry.description
    assert "http://here/v1/models/x" in entry.description
    assert entry.tags["slipway.version"] == "4"
    logged = registry[0].get_logged_model(entry.source.removeprefix("models:/"))
    assert {m.key: m.value for m in logged.metrics} == {"count/mean_absolute_error": 0.25}


def test_what_the_server_refuses_is_refused_in_its_words(words_model, packed, tmp_path):
    model = PackagedModel(words_package(words_model, packed, tmp_path / "4"))
    with pytest.raises(UserError, match=r"words\[0\]|found a whole number"):
        model.predict([{"words": [3]}])
    with pytest.raises(UserError, match="row 1, 'scale': the model has no finite 'value'"):
        model.predict([{"words": ["a"]}, {"words": ["a"], "scale": -1.0}])
    with pytest.raises(UserError, match="row 2, 'scale': the model refuses the input: "):
        model.predict([{"words": ["a"]}, {"words": []}, {"words": ["a"], "scale": 0.0}])
