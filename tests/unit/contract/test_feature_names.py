"""Legal names of features: identifiers, all different, the same every time."""

import keyword
import re

import pytest

from contract.errors import ConfigError
from contract.feature_names import legal_names
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

ODD = (
    "sepal length (cm)",
    "a-b",
    "a b",
    "größe",
    "class",
    "None",
    "Age",
    "age",
    "AGE",
    "2020",
    "x" * 300,
    "a/b",
    "a:b",
    "%",
    "日本",
    "_x",
    "self",
    "training",
    'q"q',
    " lead",
)


def test_ordinary_names_are_their_own() -> None:
    names = ("age", "petal_length_cm", "X1", "inputs", "x" * 128)
    assert legal_names(names) == {name: name for name in names}


def test_every_name_gets_an_identifier_of_its_own() -> None:
    legal = legal_names(ODD)
    assert list(legal) == list(ODD)
    assert len({name.casefold() for name in legal.values()}) == len(ODD)
    for name in legal.values():
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,127}", name)
        assert not keyword.iskeyword(name)


def test_of_names_that_differ_in_case_the_lower_one_keeps_its_own() -> None:
    legal = legal_names(("Age", "age", "AGE", "Job"))
    assert (legal["age"], legal["Job"]) == ("age", "Job")
    assert legal["Age"].startswith("f_age_")
    assert legal["Age"] != legal["AGE"]


def test_a_made_up_name_stays() -> None:
    """sha256('a-b') begins with the digest here, computed with sha256sum."""
    assert legal_names(["a-b"]) == {"a-b": "f_a_b_d44362d6"}


def config_with(*names: str, **changes: object) -> PipelineConfig:
    raw = {
        "name": "odd",
        "features": {name: {"dtype": "float32"} for name in names},
        "heads": {"y": {"task": "regression"}},
        "ingest": {"source": {"kind": "csv", "files": ["a.csv"]}},
        **changes,
    }
    return validate(PipelineConfig, raw, "odd/pipeline.yaml")


def test_any_column_name_is_a_feature_in_the_config() -> None:
    assert list(config_with(*ODD).features) == list(ODD)
    assert list(config_with("weight").features) == ["weight"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "a feature needs a name"),
        ("  ", "a feature needs a name"),
        ("slice:x", "the name is reserved"),
        ("label:y", "the name is reserved"),
        ("split:", "the name is reserved"),
        ("example_id", "the name is reserved"),
        ("a\nb", r"holds a control character"),
    ],
)
def test_names_that_cannot_work_are_refused_in_one_line(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said}.*rename the column"):
        config_with("x", name)


def test_weight_is_taken_only_where_there_are_weights() -> None:
    with pytest.raises(
        ConfigError, match=r"features\.weight: the name is reserved where there are"
    ):
        config_with("weight", weight="mass")
