"""Rows that are in more than one split, by their features."""

from hashlib import sha256
from typing import Any

import pyarrow as pa

from components.validate.contents import Contents
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig


def config_of(**split: Any) -> PipelineConfig:
    raw = {
        "name": "people",
        "features": {"age": {"dtype": "int64"}, "job": {"dtype": "string", "default": ""}},
        "heads": {"y": {"task": "regression"}},
        "ingest": {"source": {"kind": "csv", "files": ["people.csv"]}, "split": split},
    }
    return validate(PipelineConfig, raw, "people")


def batch(ages: list[int], jobs: list[bytes | None]) -> pa.RecordBatch:
    pairs = zip(ages, jobs, strict=True)
    ids = [sha256(repr(pair).encode()).hexdigest()[:32].encode() for pair in pairs]
    columns = {
        "age": pa.array([[age] for age in ages], pa.large_list(pa.int64())),
        "job": pa.array(
            [None if job is None else [job] for job in jobs], pa.large_list(pa.large_binary())
        ),
        "example_id": pa.array([[one] for one in ids], pa.large_list(pa.large_binary())),
    }
    return pa.RecordBatch.from_pydict(columns)


def repeated(config: PipelineConfig) -> dict[str, int]:
    contents = Contents.of(config)
    contents.add("train", batch([1, 2], [b"a", None]))
    contents.add("train", batch([3], [b"c"]))
    contents.add("eval", batch([2, 2, 4], [None, b"", b"d"]))
    contents.add("test", batch([1, 1, 4, 5], [b"a", b"a", b"d", b"e"]))
    return contents.repeated()


def test_rows_of_an_earlier_split_are_counted_whatever_identifies_them() -> None:
    expected = {"eval": 1, "test": 3}
    assert repeated(config_of(key="age")) == expected
    assert repeated(config_of(group="age")) == expected
    assert repeated(config_of(by="time", column="at")) == expected


def test_a_hash_of_the_features_leaves_nothing_to_count() -> None:
    assert repeated(config_of()) == {}
