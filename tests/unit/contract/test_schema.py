"""Each rule of the config, and the words in which it refuses."""

from typing import Any

import pytest

from contract.errors import ConfigError
from contract.loader import validate
from contract.schema.data import SklearnSource
from contract.schema.pipeline import PipelineConfig


def minimal(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "name": "shapes",
        "features": {"image": {"dtype": "float32", "shape": [64]}, "colour": {"dtype": "string"}},
        "heads": {"digit": {"task": "multiclass_classification", "classes": ["0", "1", "2"]}},
        "ingest": {"source": {"kind": "sklearn", "dataset": "digits"}},
    }
    return raw | changes


def load(**changes: Any) -> PipelineConfig:
    return validate(PipelineConfig, minimal(**changes), "shapes/pipeline.yaml")


def test_a_minimal_config_gets_every_default() -> None:
    config = load()

    assert isinstance(config.ingest.source, SklearnSource)
    assert config.label_column("digit") == "digit"
    assert config.blessing_head == "digit"
    assert config.deploy.ladder_percent == (1, 5, 25, 50, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": {"learnin_rate": 0.1}},
            "train.learnin_rate: unknown key; did you mean 'learning_",
        ),
        (
            {"train": {"steps": "many"}},
            "train.steps: Input should be a valid integer, found 'many'",
        ),
        ({"train": {"steps": 0}}, "train.steps: Input should be greater than or equal to 1"),
        ({"schedule": {"cron": "daily"}}, "schedule.cron: expected five fields"),
        ({"schedule": {"cron": "61 * * * *"}}, "schedule.cron: .*out of range"),
        ({"labels": {"cron": "daily"}}, "labels.cron: expected five fields"),
        ({"labels": {"cron": "61 * * * *"}}, "labels.cron: .*out of range"),
        ({"labels": {"by": "marign"}}, "labels.by: Input should be 'least_confidence'"),
        ({"labels": {"min_labels": 0}}, "labels.min_labels: Input should be greater than"),
        ({"labels": {"audit_ratio": 0.0}}, "labels.audit_ratio: Input should be greater than"),
        ({"labels": {"head": "letter"}}, "labels.head: 'letter' is not a head with classes"),
        (
            {"labels": {}, "heads": {"size": {"task": "regression"}}},
            "labels.head: expected one of the heads with classes .there is none",
        ),
        (
            {"labels": {"people": 1}},
            "labels.min_answers: expected at most labels.people .1., found 2",
        ),
        ({"labels": {}}, "labels: .*expected serve.prediction_log_inputs_ratio above 0, found 0"),
        ({"train": {"steps": 10**23}}, "train.steps: "),
        ({"train": {"learning_rate": float("inf")}}, "train.learning_rate: .*finite"),
        ({"weight": "image"}, "weight: column 'image' is also a feature"),
        ({"evaluate": {"slices": ["size"]}}, "evaluate.slices: 'size' is not a feature"),
        ({"evaluate": {"slices": ["image"]}}, "evaluate.slices: 'image' is not a scalar"),
        ({"bless": {"head": "letter"}}, "bless.head: 'letter' is not a head"),
        ({"deploy": {"ladder_percent": [50, 5, 100]}}, "ladder_percent must rise"),
        ({"deploy": {"sticky_header": "X-User-Id"}}, "sticky_header"),
        ({"deploy": {"sticky_header": "authorization"}}, "may be alike for all callers"),
        ({"deploy": {"ladder_percent": [1, 50]}}, "ladder_percent must end at 100"),
        (
            {"deploy": {"allowed_error_ratio": 0.1, "refused_error_ratio": 0.05}},
            "allowed_error_ratio must be below",
        ),
        (
            {"heads": {"digit": {"task": "binary_classification", "classes": ["a", "b", "c"]}}},
            "heads.digit: needs exactly 2 classes, found 3",
        ),
        ({"heads": {"image": {"task": "regression"}}}, "column 'image' is also a feature: a leak"),
        (
            {"features": {"age": {"dtype": "int64", "default": 2**63}}},
            "features.age: default 9223372036854775808 is beyond int64",
        ),
        (
            {"features": {"age": {"dtype": "int64", "default": "old"}}},
            "features.age: default 'old' is not a int64",
        ),
        (
            {"features": {"age": {"dtype": "int64", "shape": [2], "is_variable_length": True}}},
            "a variable-length feature has no shape",
        ),
        (
            {
                "ingest": {
                    "source": {"kind": "sklearn", "dataset": "digits"},
                    "split": {"train": 0.8, "eval": 0.1, "test": 0.2},
                }
            },
            r"train \+ eval \+ test must be 1.0, found 1.1",
        ),
        (
            {"ingest": {"source": {"kind": "cvs", "files": ["a.csv"]}}},
            "ingest.source: .*'csv', 'parquet', 'jsonl', .*'idx', 'sklearn'",
        ),
    ],
)
def test_a_wrong_config_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**changes)


def test_all_problems_of_a_file_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(train={"stepps": 1, "batch_size": -1}, colour="red")

    assert len(caught.value.problems) == 3


def test_a_config_survives_its_own_json() -> None:
    config = load(**{"validate": {"max_drift": 0.5}})

    assert config.validate_.max_drift == 0.5
    assert PipelineConfig.model_validate_json(config.model_dump_json()) == config
