"""Rows to raw examples: labels, weights, keys, and the reasons of those that are left out."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.data.raw_rows import (
    ParsedRows,
    RowParser,
    SourceRows,
    column_problems,
    required_columns,
)
from contract.errors import ConfigError
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig


def make_config(**changes: Any) -> PipelineConfig:
    raw: dict[str, Any] = {
        "name": "people",
        "features": {
            "age": {"dtype": "int64", "minimum": 0},
            "job": {"dtype": "string", "default": "none"},
        },
        "heads": {
            "income": {
                "task": "binary_classification",
                "classes": ["<=50K", ">50K"],
                "strip": ".",
            }
        },
        "ingest": {"source": {"kind": "csv", "files": ["people.csv"]}},
        **changes,
    }
    return validate(PipelineConfig, raw, "people")


def parse(config: PipelineConfig, **columns: Any) -> ParsedRows:
    arrays = {n: v if isinstance(v, pa.Array) else pa.array(v) for n, v in columns.items()}
    batch = pa.RecordBatch.from_pydict(arrays)
    rows = np.arange(1, batch.num_rows + 1)
    return RowParser(config).parse(SourceRows("people.csv", rows, batch))


def test_labels_are_stripped_and_become_class_indices() -> None:
    found = parse(make_config(), age=["1", "2"], job=["x", None], income=["<=50K", " >50K. "])
    assert found.examples["label:income"].to_pylist() == [[0], [1]]
    assert found.examples["job"].to_pylist() == [[b"x"], None]
    assert found.bad == ()


def test_a_label_never_seen_is_a_bad_row_with_its_place_and_content() -> None:
    found = parse(make_config(), age=["1", "2"], job=["x", "y"], income=[">50K", "rich"])
    (bad,) = found.bad
    assert (bad.row, bad.found) == (2, "'rich'")
    assert bad.reason == "label 'income': not one of '<=50K', '>50K'"
    assert bad.content == {"age": "2", "job": "y", "income": "rich"}
    assert found.examples["age"].to_pylist() == [[1]]


def test_the_first_reason_of_a_row_counts() -> None:
    found = parse(make_config(), age=["x", "-1"], job=["", ""], income=["?", "<=50K"])
    assert [bad.reason for bad in found.bad] == ["age: not an int64", "age: below the minimum 0"]


def test_integer_and_float_labels_match_class_names() -> None:
    heads = {"digit": {"task": "multiclass_classification", "classes": ["0", "1", "2"]}}
    config = make_config(heads=heads)
    found = parse(config, age=[1, 2], job=["a", "b"], digit=[2, 0])
    assert found.examples["label:digit"].to_pylist() == [[2], [0]]
    assert parse(config, age=[1], job=["a"], digit=[1.0]).bad == ()


@pytest.mark.parametrize("classes", [["0", "1"], ["False", "True"]])
@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["0", "1"]),
        pa.array(["0.0", "1.0"]),
        pa.array(["False", "True"]),
        pa.array(["false", "true"]).dictionary_encode(),
        pa.array([b"false", b"true"]),
        pa.array([0, 1], pa.uint8()),
        pa.array([0.0, 1.0]),
        pa.array([0.0, 1.0], pa.float16()),
        pa.array([False, True]),
        pa.array([Decimal("0.0"), Decimal("1.0")]),
        pa.array([["0"], ["1"]]),
    ],
)
def test_labels_of_every_kind_match_the_same_classes(classes: list[str], labels: pa.Array) -> None:
    heads = {"y": {"task": "binary_classification", "classes": classes}}
    found = parse(make_config(heads=heads), age=[1, 2], job=["a", "b"], y=labels)
    assert found.examples["label:y"].to_pylist() == [[0], [1]]


def test_labels_that_are_no_text_are_bad_rows() -> None:
    heads = {"y": {"task": "binary_classification", "classes": ["0", "1"]}}
    columns = {"age": [1, 2, 3], "job": ["a", "b", "c"]}
    found = parse(make_config(heads=heads), **columns, y=pa.array([math.nan, 1.0, None]))
    assert [bad.reason for bad in found.bad] == ["label 'y': missing", "label 'y': missing"]
    found = parse(make_config(heads=heads), **columns, y=pa.array([b"\xff", b"1", b"0"]))
    assert [bad.reason for bad in found.bad] == ["label 'y': not one of '0', '1'"]
    found = parse(make_config(heads=heads), **columns, y=pa.array([["0", "1"], ["1"], []]))
    assert [bad.reason for bad in found.bad] == ["label 'y': not a scalar", "label 'y': missing"]


def test_text_that_is_not_utf8_is_a_bad_row_with_its_bytes() -> None:
    offsets = pa.py_buffer(np.array([0, 1, 3], np.int32).tobytes())
    job = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ab\xff")])
    found = parse(make_config(), age=[1, 2], job=job, income=["<=50K"] * 2)
    assert found.examples["job"].to_pylist() == [[b"a"]]
    assert [(bad.row, bad.reason) for bad in found.bad] == [(2, "job: not UTF-8")]
    assert found.bad[0].content["job"] == "b'b\\xff'"


def test_columns_of_a_type_that_fits_nothing_are_named_before_any_row() -> None:
    config = make_config(heads={"price": {"task": "regression"}}, weight="mass")
    schema = pa.schema(
        {
            "age": pa.timestamp("s"),
            "job": pa.map_(pa.string(), pa.string()),
            "price": pa.date32(),
            "mass": pa.binary(),
            "other": pa.struct([]),
        }
    )
    found = column_problems(schema, config)
    assert list(found) == ["age", "job", "price", "mass"]
    assert found["job"].startswith("is a map (map<string, string>)")


def test_a_regression_label_must_be_a_finite_number() -> None:
    config = make_config(heads={"price": {"task": "regression"}})
    found = parse(config, age=["1", "2", "3"], job=["a", "b", "c"], price=["1.5", "nan", None])
    assert found.examples["label:price"].to_pylist() == [[1.5]]
    assert [bad.reason for bad in found.bad] == [
        "label 'price': not a finite number",
        "label 'price': missing, without a default",
    ]


def test_weights_below_zero_are_bad() -> None:
    config = make_config(weight="mass")
    columns = {"age": ["1", "2"], "job": ["a", "b"], "income": ["<=50K"] * 2}
    found = parse(config, **columns, mass=["0.5", "-1"])
    assert found.examples["weight"].to_pylist() == [[0.5]]
    assert found.bad[0].reason == "weight 'mass': below 0"


def test_the_key_of_a_row_is_its_features_in_any_order_and_form() -> None:
    config = make_config()
    text = parse(config, age=["7"], job=["x"], income=["<=50K"]).keys
    typed = parse(config, income=[">50K"], job=["x"], age=[7.0]).keys
    other = parse(config, age=["8"], job=["x"], income=["<=50K"]).keys
    assert text == typed
    assert text != other


def test_the_key_of_a_row_stays_for_ever() -> None:
    """Written down on 2026-11-21: if this changes, every data set is shared out anew."""
    (key,) = parse(make_config(), age=["7"], job=["x"], income=["<=50K"]).keys
    # sha256 of: '1;' + int64 7 little-endian, then '1;' + '1:x'
    import hashlib

    assert key == hashlib.sha256(b"1;" + (7).to_bytes(8, "little") + b"1;1:x").digest()


def test_a_key_column_decides_alone_and_must_be_there() -> None:
    config = make_config(
        ingest={
            "source": {"kind": "csv", "files": ["people.csv"]},
            "split": {"train": 0.8, "eval": 0.1, "test": 0.1, "key": "person"},
        }
    )
    columns = {"age": ["1", "2", "3"], "job": ["a", "b", "c"], "income": ["<=50K"] * 3}
    found = parse(config, **columns, person=["p", "p", None])
    assert found.keys[0] == found.keys[1]
    assert [bad.reason for bad in found.bad] == ["key 'person': missing"]
    assert required_columns(config) == ("age", "job", "income", "person")


def test_no_rows_parse_to_no_rows() -> None:
    empty = pa.array([], pa.string())
    found = parse(make_config(), age=empty, job=empty, income=empty)
    assert (found.examples.num_rows, found.keys, found.bad) == (0, (), ())


def test_ids_are_the_digests_first_half() -> None:
    found = parse(make_config(), age=["1"], job=["a"], income=["<=50K"])
    assert found.examples["example_id"].to_pylist() == [[found.keys[0].hex()[:32].encode()]]


def test_a_long_list_of_classes_is_cut_in_the_reason() -> None:
    names = [str(n) for n in range(12)]
    heads = {"n": {"task": "multiclass_classification", "classes": names}}
    found = parse(make_config(heads=heads), age=[1], job=["a"], n=["x"])
    assert found.bad[0].reason.endswith("'9' and 2 more")


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_label_is_unknown(value: str) -> None:
    found = parse(make_config(), age=["1"], job=["a"], income=[value])
    assert len(found.bad) == 1


# --- what decides a split -----------------------------------------------------------------------


def split_by(**split: Any) -> PipelineConfig:
    source = {"kind": "csv", "files": ["people.csv"]}
    return make_config(ingest={"source": source, "split": split})


PEOPLE = {"age": [1, 2, 3], "job": ["a", "b", "c"], "income": ["<=50K"] * 3}


def test_a_column_names_the_split() -> None:
    found = parse(split_by(by="column", column="part"), **PEOPLE, part=["test", "train", " eval"])
    assert found.marks is not None
    assert found.marks.tolist() == [2, 0, 1]


@pytest.mark.parametrize("part", [[1, 0, 2], ["1", "0", "2.0"], [1.0, 0.0, 2.0], [[1], [0], [2]]])
def test_values_are_mapped_to_splits_by_what_they_mean(part: list[Any]) -> None:
    values = {"0": "train", "1": "eval", "2": "test", "3": "train"}
    config = split_by(by="column", column="part", values=values)
    found = parse(config, **PEOPLE, part=part)
    assert found.marks is not None
    assert found.marks.tolist() == [1, 0, 2]


def test_a_row_that_names_no_split_is_a_bad_row() -> None:
    found = parse(split_by(by="column", column="part"), **PEOPLE, part=["dev", None, "train"])
    assert [(bad.row, bad.reason, bad.found) for bad in found.bad] == [
        (1, "split 'part': not one of 'train', 'eval', 'test'", "'dev'"),
        (2, "split 'part': missing", "None"),
    ]
    assert found.marks is not None
    assert (found.rows.tolist(), found.marks.tolist()) == ([2], [0])


@pytest.mark.parametrize(
    "at",
    [
        pa.array(["1970-01-01T00:00:05", "1970-01-01 00:00:03Z", "1970-01-01T01:00:04+01:00"]),
        pa.array([5, 3, 4]),
        pa.array([5.0, 3.0, 4.0]),
        pa.array([5, 3, 4], pa.timestamp("s")),
        pa.array([5000, 3000, 4000], pa.timestamp("ms", "Europe/Paris")),
        pa.array([5, 3, 4], pa.timestamp("s")).dictionary_encode(),
        pa.array([[b"5"], [b"3"], [b"4"]]),
    ],
)
def test_times_of_every_type_mean_the_same(at: pa.Array) -> None:
    found = parse(split_by(by="time", column="at"), **PEOPLE, at=at)
    assert found.marks is not None
    assert found.marks.tolist() == [5_000_000, 3_000_000, 4_000_000]


def test_a_row_without_a_readable_time_is_a_bad_row() -> None:
    found = parse(split_by(by="time", column="at"), **PEOPLE, at=["soon", "", "2024-01-31"])
    assert [(bad.row, bad.reason) for bad in found.bad] == [
        (1, "split 'at': not an ISO 8601 time, nor a number of s since 1970"),
        (2, "split 'at': not an ISO 8601 time, nor a number of s since 1970"),
    ]


def test_a_group_decides_but_does_not_identify() -> None:
    plain = parse(split_by(), **PEOPLE)
    grouped = parse(split_by(group="user"), **PEOPLE, user=["x", "y", "x"])
    assert grouped.keys == plain.keys == plain.groups
    assert grouped.groups[0] == grouped.groups[2] != grouped.groups[1]
    missing = parse(split_by(group="user"), **PEOPLE, user=["x", None, "x"])
    assert [bad.reason for bad in missing.bad] == ["group 'user': missing"]


def test_the_columns_of_a_split_are_needed() -> None:
    config = split_by(by="time", column="at", group="user")
    assert required_columns(config) == ("age", "job", "income", "user", "at")


def test_labels_are_mapped_to_classes_and_unknown_ones_are_bad_rows() -> None:
    head = {
        "task": "binary_classification",
        "classes": ["0", "1"],
        "label_map": {"yes": 1, "no": 0},
    }
    found = parse(
        make_config(heads={"income": head}),
        age=[1, 2, 3, 4],
        job=["a"] * 4,
        income=["yes", "no", "1", "maybe"],
    )
    assert found.examples["label:income"].to_pylist() == [[1], [0], [1]]
    assert [bad.reason for bad in found.bad] == ["label 'income': not one of '0', '1', 'yes', 'no'"]


@pytest.mark.parametrize(
    ("label_map", "problem"),
    [
        ({"yes": "2"}, "'yes' is mapped to '2', which is not in classes"),
        ({"0": "1"}, "'0' is a class itself and cannot be mapped to '1'"),
        ({"yes": True}, "quote it"),
    ],
)
def test_a_label_map_that_says_two_things_is_refused(label_map: Any, problem: str) -> None:
    head = {"task": "binary_classification", "classes": ["0", "1"], "label_map": label_map}
    with pytest.raises(ConfigError, match=problem):
        make_config(heads={"income": head})
