"""Pipelines of a few lines whose model is looked at before any data are read."""

from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from components.models.model_look import look_at_model
from components.transform.preprocessing import load_preprocessing
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

PREPROCESSING = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    words = tft.compute_and_apply_vocabulary(inputs["words"], num_oov_buckets=1)
    return {"x": inputs["x"], "words": FIRST}
"""
HEADER = """
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

def number(features):
    return layers.Reshape((1,))(features["x"])
"""
BINARY = {"y": {"task": "binary_classification", "classes": ["no", "yes"]}}
MULTI = {"y": {"task": "multiclass_classification", "classes": ["a", "b", "c"]}}
VALUE = {"y": {"task": "regression"}}
MASKED = """
    words = layers.Embedding(9, 4, mask_zero=True)(features["words"])
    words = layers.GRU(4)(words)
    h = layers.Concatenate()([number(features), words])
"""
MEAN = MASKED.replace("layers.GRU(4)", "layers.GlobalAveragePooling1D()")


def look(
    folder: Path,
    body: str,
    heads: dict[str, Any] = BINARY,
    first: int = 1,
    extra: str = "",
    preprocessing: str = PREPROCESSING,
    **changes: Any,
) -> tuple[str, ...]:
    """Look at a model whose `build_model` has this body."""
    raw = {
        "name": "odd",
        "features": {
            "x": {"dtype": "float32"},
            "words": {"dtype": "string", "is_variable_length": True},
        },
        "heads": heads,
        "ingest": {"source": {"kind": "csv", "files": ["a.csv"]}},
        **changes,
    }
    config = validate(PipelineConfig, raw, "odd")
    pipeline = folder / "pipelines" / "odd"
    pipeline.mkdir(parents=True)
    words = "words + 1" if first else "words"
    build = f"def build_model(features, hyperparameters):\n{indent(dedent(body), '    ')}"
    (pipeline / "model.py").write_text(f"{HEADER}\n{dedent(extra)}\n{build}")
    (pipeline / "preprocessing.py").write_text(preprocessing.replace("FIRST", words))
    return look_at_model(config, pipeline, load_preprocessing(pipeline))


def finished(body: str, output: str = "layers.Dense(1)(h)") -> str:
    return f"{dedent(body)}\nreturn keras.Model(inputs=features, outputs={output})"
