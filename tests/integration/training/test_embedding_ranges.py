"""Embeddings against the ids that a transform graph's schema knows."""

from pathlib import Path

import pytest

from components.models.user_model import build_model
from contract.errors import UserCodeError
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

SCHEMA = """
feature {{
  name: "town" type: INT int_domain {{ min: {least} max: 3 is_categorical: true }}
  presence {{ min_fraction: 1.0 }} shape {{ }}
}}
feature {{ name: "x" type: FLOAT presence {{ min_fraction: 1.0 }} shape {{ }} }}
"""
MODEL = """
import keras
from keras import layers

def build_model(features, hyperparameters):
    town = layers.Embedding(SIZE, 2, name="towns")(features["town"]SHIFT)
    x = layers.Reshape((1,))(features["x"])
    output = layers.Dense(1)(layers.Concatenate()([x, town]))
    return keras.Model(inputs=features, outputs=output)
"""
CONFIG = {
    "name": "towns",
    "features": {"town": {"dtype": "string"}, "x": {"dtype": "float32"}},
    "heads": {"y": {"task": "regression"}},
    "ingest": {"source": {"kind": "csv", "files": ["a.csv"]}},
}


def build(tmp_path: Path, size: int, least: int = 0, shift: str = "") -> None:
    """Build a model whose feature `town` has ids from `least` to 3."""
    graph, folder = tmp_path / "graph", tmp_path / "pipelines" / "towns"
    (graph / "transformed_metadata").mkdir(parents=True)
    schema = SCHEMA.format(least=least)
    (graph / "transformed_metadata" / "schema.pbtxt").write_text(schema)
    folder.mkdir(parents=True)
    model = MODEL.replace("SIZE", str(size)).replace("SHIFT", shift)
    (folder / "model.py").write_text(model)
    build_model(validate(PipelineConfig, CONFIG, "towns"), folder, graph)


def test_an_embedding_without_a_row_for_unseen_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError) as caught:
        build(tmp_path, size=3)
    assert (
        "layer 'towns' has 3 rows, but feature 'town' has ids up to 3 (also for values never seen);"
        " expected input_dim of at least 4"
    ) in str(caught.value)


def test_an_embedding_with_a_row_for_each_id_passes(tmp_path: Path) -> None:
    build(tmp_path, size=4)


def test_minus_one_for_unseen_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match=r"feature 'town' is -1 .* give its vocabulary num_oov"):
        build(tmp_path, size=4, least=-1)


def test_ids_that_the_model_shifts_itself_are_its_own_matter(tmp_path: Path) -> None:
    build(tmp_path, size=5, least=-1, shift=" + 1")
