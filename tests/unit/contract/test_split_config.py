"""The keys of `ingest.split`: what belongs together, and what is refused."""

from typing import Any

import pytest

from contract.errors import ConfigError
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig
from contract.schema.split import SplitConfig

FILE = {"kind": "csv", "files": ["people.csv"]}


def split_of(raw: dict[str, Any], test_source: dict[str, Any] | None = None) -> SplitConfig:
    config = {
        "name": "people",
        "features": {"age": {"dtype": "int64"}},
        "heads": {"income": {"task": "regression"}},
        "ingest": {"source": FILE, "test_source": test_source, "split": raw},
    }
    return validate(PipelineConfig, config, "people").ingest.split


def test_a_hash_decides_unless_something_else_is_said() -> None:
    assert (split_of({}).by, split_of({"group": "user"}).by) == ("hash", "hash")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"by": "column"}, "column: expected the column that by: column looks at"),
        ({"column": "part"}, "column: only with by: column or time, found by: hash"),
        ({"by": "time", "column": "at", "values": {"a": "train"}}, "values: only with by: column"),
        ({"last": 0.2}, "last: only with by: time"),
        ({"by": "column", "column": "p", "values": {"a": "train"}}, "expected a value for eval"),
        (
            {"by": "column", "column": "p", "values": {"a": "train", "b": "eval"}},
            "ingest.split.values: expected a value for test, where there is no test_source",
        ),
        ({"by": "column", "column": "p", "values": {"a": "training"}}, "'train', 'eval' or 'test'"),
        ({"by": "time", "column": "at", "eval_from": "soon"}, "expected a date or time such as"),
        ({"by": "time", "column": "at", "test_from": "2024-01-01"}, "eval_from: expected a date"),
        ({"by": "time", "column": "at", "eval_from": "2024-01-01"}, "test_from: expected a date"),
        (
            {"by": "time", "column": "at", "eval_from": "2024-01-02", "test_from": "2024-01-02"},
            "test_from: 2024-01-02 is not after eval_from, 2024-01-02",
        ),
        (
            {"by": "time", "column": "at", "eval_from": "2024-01-02", "last": 0.1},
            "last: eval_from says where the newest rows begin",
        ),
        ({"test": 0.0, "train": 0.9}, "ingest.split.test: must be above 0 where there is no"),
    ],
)
def test_keys_that_do_not_fit_are_refused(raw: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as found:
        split_of(raw)
    assert problem in str(found.value)


def test_a_test_source_is_the_whole_test_split() -> None:
    by_time = {"by": "time", "column": "at", "eval_from": "2024-01-01"}
    assert split_of(by_time, FILE).test_from is None
    with pytest.raises(ConfigError, match="test_from: test_source is the test split"):
        split_of({**by_time, "test_from": "2024-02-01"}, FILE)
    values = {"a": "train", "b": "eval", "c": "test"}
    with pytest.raises(ConfigError, match="values: test_source is the test split"):
        split_of({"by": "column", "column": "part", "values": values}, FILE)


def test_a_cut_point_without_a_zone_is_in_utc() -> None:
    with pytest.raises(ConfigError, match="is not after"):
        split_of(
            {
                "by": "time",
                "column": "at",
                "eval_from": "2024-01-01 12:00",
                "test_from": "2024-01-01T13:00+01:00",
            }
        )
