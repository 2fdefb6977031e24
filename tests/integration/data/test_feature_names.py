"""Columns of any name, from a file through preprocessing and a Keras model to a server's engine."""

import csv
import io
import json
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from components.data.raw_examples import encode_rows, read_raw, to_rows
from components.models.saved_models import (
    export,
    load,
    predict_columns,
    predict_examples,
    wire_inputs,
)
from components.models.user_model import build_model
from components.optimize.engines.core import Core
from components.optimize.engines.kinds import KINDS, make
from contract.records.data import TransformRecord
from contract.records.package import InputSpec
from contract.records.record import Result
from contract.schema.pipeline import PipelineConfig

from .conftest import Workshop

NUMBERS = (
    *("sepal length (cm)", "a-b", "a/b", "Age", "age", "AGE", "2020", "class", "größe", "no"),
    *("training", "self", "x.y", "x:0", "_x", "3rd", "温度", "🌡", 'it\'s "so"', "a\\b", "100 %"),
    *("cut_0", "cut_1", "f_x_y", "inputs", "instances", "very " * 60 + "long"),
)
WORDS = "Wörter, viele"
PREPROCESSING = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    outputs = {n: tft.scale_to_z_score(v) for n, v in inputs.items() if v.dtype == tf.float32}
    words = tft.compute_and_apply_vocabulary(inputs["Wörter, viele"], num_oov_buckets=1)
    return outputs | {"Wörter, viele": words + 1}
"""
MODEL = """
import keras
from keras import layers

def build_model(features, hyperparameters):
    numbers = [layers.Reshape((1,))(v) for n, v in sorted(features.items()) if n[0] != "W"]
    words = layers.Embedding(20, 3, mask_zero=True)(features["Wörter, viele"])
    words = layers.GlobalAveragePooling1D()(words)
    merged = layers.Concatenate()([*numbers, words])
    return keras.Model(inputs=features, outputs=layers.Dense(1)(merged))
"""

SERVE = """
import json
import sys
from pathlib import Path

from contract.records.package import InputSpec
from serving.server.requests.instances import InputReader
from serving.server.engines.opening import open_model

given = json.load(sys.stdin)
inputs = {name: InputSpec(**spec) for name, spec in given["inputs"].items()}
columns = InputReader(inputs).read_rows([given["row"]])
for engine in given["engines"]:
    folder = Path(given["model"]).with_name(engine) if engine else None
    model = open_model(Path(given["model"]), folder, inputs, 1)
    assert set(model.signatures["serving_default"].inputs) == set(inputs)
    print(json.dumps(model.call("serving_default", columns)["scores"][0].tolist()))
"""


@pytest.fixture
def odd(workshop: Workshop) -> Workshop:
    rng = np.random.default_rng(0)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([*NUMBERS, WORDS, "income"])
    for row in rng.normal(size=(200, len(NUMBERS))).round(3).tolist():
        words = " ".join(rng.choice(list("abcde"), 1 + int(rng.integers(4))))
        table.writerow([*row, words, ("<=50K", ">50K")[int(row[0] > row[3])]])
    features = {name: {"dtype": "float32"} for name in NUMBERS}
    workshop.config["features"] = features | {
        WORDS: {"dtype": "string", "is_variable_length": True}
    }
    workshop.config["evaluate"] = {"slices": ["no"]}
    workshop.files |= {"people.csv": text.getvalue().encode(), "model.py": MODEL.encode()}
    workshop.preprocessing = PREPROCESSING
    return workshop


def test_a_column_of_any_name_works_up_to_the_server(odd: Workshop) -> None:
    odd.run("ingest", "validate", "transform")
    config, layout = odd.frozen(), odd.layout()
    record = Result.read(layout.result("transform")).detail_as(TransformRecord)
    graph = layout.step("transform") / record.transform_graph
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = build_model(config, layout.frozen_pipeline, graph)
    export(config, graph, model, odd.root / "model")
    saved = load(odd.root / "model")
    columns = read_raw(odd.shards("ingest", "test"), config)
    rows = to_rows(columns)
    assert set(rows[0]) == {*NUMBERS, WORDS}

    answers = predict_columns(saved, columns, config)["income"]
    examples = encode_rows(rows, config)
    np.testing.assert_allclose(predict_examples(saved, examples, config)["income"], answers)
    assert len(np.unique(answers)) > len(rows) / 2

    (odd.root / "parts").mkdir()
    core = Core.of(odd.root / "model", wire_inputs(columns.features, config), odd.root / "parts")
    for engine in ("openvino", "litert"):
        (odd.root / engine).mkdir()
        make(core, KINDS[engine], odd.root / engine)
    for served in answered_by_a_server(odd, config, rows[0]):
        np.testing.assert_allclose(served, answers[0], atol=1e-6)


def answered_by_a_server(
    odd: Workshop, config: PipelineConfig, row: dict[str, Any]
) -> list[list[float]]:
    """Answer one row by each of the server's engines, in a process as a server has."""
    inputs = {name: InputSpec.of(f).model_dump() for name, f in config.features.items()}
    engines = ["", "openvino", "litert"]
    model = str(odd.root / "model")
    given = json.dumps({"model": model, "engines": engines, "inputs": inputs, "row": row})
    done = subprocess.run(
        [sys.executable, "-c", SERVE], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(answers) == len(engines), done.stdout
    return answers
