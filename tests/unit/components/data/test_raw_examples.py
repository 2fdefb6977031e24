"""The schema of raw examples, and rows as a caller would send them."""

from typing import Any

import numpy as np

from components.data.raw_examples import RawColumns, raw_schema, to_rows
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig


def make_config() -> PipelineConfig:
    raw: dict[str, Any] = {
        "name": "people",
        "features": {
            "age": {"dtype": "int64", "default": 30},
            "face": {"dtype": "float32", "shape": [2, 3]},
            "words": {"dtype": "string", "is_variable_length": True},
        },
        "heads": {
            "income": {"task": "binary_classification", "classes": ["low", "high"]},
            "height": {"task": "regression"},
        },
        "weight": "mass",
        "ingest": {"source": {"kind": "csv", "files": ["people.csv"]}},
    }
    return validate(PipelineConfig, raw, "people")


def test_the_schema_says_which_tensor_each_column_becomes() -> None:
    schema = raw_schema(make_config())
    tensors = schema.tensor_representation_group[""].tensor_representation
    assert tensors["age"].dense_tensor.default_value.int_value == 30
    assert [dim.size for dim in tensors["face"].dense_tensor.shape.dim] == [2, 3]
    assert list(tensors["words"].ragged_tensor.feature_path.step) == ["words"]
    names = [feature.name for feature in schema.feature]
    assert names[3:] == ["label:income", "label:height", "example_id", "weight"]


def test_only_columns_without_default_must_be_present() -> None:
    required = {f.name: f.presence.min_fraction for f in raw_schema(make_config()).feature}
    assert (required["age"], required["words"], required["face"]) == (0.0, 0.0, 1.0)


def test_rows_are_what_json_can_hold() -> None:
    words = np.empty(2, object)
    words[0], words[1] = np.array([b"a", b"\xff"], object), np.array([], object)
    columns = RawColumns(
        features={
            "age": np.array([1, 2]),
            "face": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
            "words": words,
        },
        labels={},
        ids=np.array([b"x", b"y"], object),
        weights=None,
    )
    first, second = to_rows(columns)
    assert first == {
        "age": 1,
        "face": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "words": ["a", {"b64": "/w=="}],
    }
    assert second["words"] == []
    assert type(second["age"]) is int
