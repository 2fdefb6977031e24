"""Labels of the splits beside each other: what is far apart, and what chance explains."""

from typing import Any

import pytest

from components.validate.anomalies import Comparison
from components.validate.labels import label_anomalies, labels_by_split, labels_told
from components.validate.scan import Scan
from components.validate.statistics import ColumnStatistics, DataStatistics
from contract.schema.data import HeadConfig, ValidateConfig

Splits = dict[str, dict[str, ColumnStatistics]]
BINARY = HeadConfig(task="binary_classification", classes=("no", "yes"))
COLORS = HeadConfig(task="multiclass_classification", classes=("red", "green", "blue"))
PRICE = HeadConfig(task="regression")


def classes(**counts: int) -> dict[str, ColumnStatistics]:
    rows = sum(counts.values())
    found = {name: count for name, count in counts.items() if count}
    column = ColumnStatistics(
        kind="categorical", rows=rows, missing=0, values=rows, most_common=found
    )
    return {"label:y": column}


def numbers(mean: float, rows: int = 1000) -> dict[str, ColumnStatistics]:
    column = ColumnStatistics(
        kind="numeric", rows=rows, missing=0, values=rows, mean=mean, deviation=2.0
    )
    return {"label:y": column}


def found(head: HeadConfig, splits: Splits, **settings: Any) -> list[str]:
    import tensorflow_metadata.proto.v0.schema_pb2 as schema_pb2

    comparison = Comparison(
        ValidateConfig(**settings),
        Scan(DataStatistics(splits=splits), {}, {}),
        schema_pb2.Schema(),
        None,
        {},
    )
    return [f"{one.kind}: {one.message}" for one in label_anomalies(comparison, {"y": head})]


def test_a_class_that_a_split_lacks_is_named() -> None:
    splits = {
        "train": classes(red=80, green=80, blue=0),
        "eval": classes(red=10, green=10, blue=0),
        "test": classes(red=10, green=0, blue=10),
    }
    missing = [one for one in found(COLORS, splits) if one.startswith("missing_class")]
    assert missing == [
        "missing_class: y: train has no row of 'blue'",
        "missing_class: y: test has no row of 'green'",
    ]


def test_shares_that_are_far_apart_are_told_with_their_figures() -> None:
    splits = {
        "train": classes(no=800, yes=200),
        "eval": classes(no=79, yes=21),
        "test": classes(no=50, yes=50),
    }
    (difference,) = found(BINARY, splits)
    # The distance of (0.8, 0.2) and (0.5, 0.5): the root of 0.07310 bits, by hand.
    assert difference == (
        "split_difference: y: labels of test differ from those of train: Jensen-Shannon distance "
        "0.270, 0.1 may be; 'yes' is 20.0% of train, 50.0% of test"
    )
    assert found(BINARY, splits, max_split_difference=0.28) == []


def test_a_difference_that_chance_explains_is_not_told() -> None:
    few = {
        "train": classes(no=80, yes=20),
        "eval": classes(no=7, yes=5),
        "test": classes(no=9, yes=1),
    }
    assert found(BINARY, few) == []
    many = {
        name: classes(
            no=100 * s["label:y"].most_common["no"], yes=100 * s["label:y"].most_common["yes"]
        )
        for name, s in few.items()
    }
    assert len(found(BINARY, many)) == 2


def test_a_mean_that_is_far_from_that_of_train_is_told() -> None:
    splits = {"train": numbers(10.0), "eval": numbers(10.1), "test": numbers(11.0)}
    (difference,) = found(PRICE, splits)
    # Half a deviation apart: 0.5 times the root of 1 / (8 ln 2).
    assert "distance 0.212" in difference
    assert "mean and deviation 10 ± 2 in train, 11 ± 2 in test" in difference


def test_labels_are_shown_by_split() -> None:
    splits = {"train": classes(no=3, yes=1), "eval": classes(no=1, yes=1)}
    assert labels_by_split({"y": BINARY}, splits) == {
        "y": {"train": {"no": 0.75, "yes": 0.25}, "eval": {"no": 0.5, "yes": 0.5}}
    }
    assert [*labels_told({"y": BINARY}, splits)] == ["y: 'yes' is 25.0% of train, 50.0% of eval"]
    colors = {"train": classes(red=5, green=3, blue=2), "eval": classes(red=1, green=1, blue=0)}
    assert [*labels_told({"y": COLORS}, colors)] == [
        "y: the rarest class, 'blue', is 20.0% of train, 0.0% of eval"
    ]
    figures = labels_by_split({"y": PRICE}, {"train": numbers(10.0)})["y"]["train"]
    assert figures == {"mean": pytest.approx(10.0), "deviation": pytest.approx(2.0)}
