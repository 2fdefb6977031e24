"""Drift: the Jensen-Shannon distance against hand arithmetic."""

import math

import pytest

from components.validate.drift import jensen_shannon_distance, measure_drift
from components.validate.scan import Scan
from components.validate.statistics import ColumnStatistics, DataStatistics


def test_equal_shares_are_at_distance_zero() -> None:
    assert jensen_shannon_distance([1, 1], [10, 10]) == pytest.approx(0.0, abs=1e-9)


def test_shares_with_nothing_in_common_are_at_distance_one() -> None:
    assert jensen_shannon_distance([5, 0], [0, 3]) == pytest.approx(1.0)


def test_a_distance_between_is_as_by_hand() -> None:
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4), all in bits:
    #   KL(p|m) = log2(4/3); KL(q|m) = 1/2 log2(2/3) + 1/2 log2(2) = 1/2 log2(4/3)
    #   divergence = (log2(4/3) + 1/2 log2(4/3)) / 2 = 3/4 log2(4/3)
    by_hand = math.sqrt(0.75 * math.log2(4 / 3))
    assert jensen_shannon_distance([4, 0], [1, 1]) == pytest.approx(by_hand)


def test_nothing_is_at_distance_zero_from_anything() -> None:
    assert jensen_shannon_distance([0, 0], [1, 2]) == 0.0


def column(**values: object) -> ColumnStatistics:
    rows = {"kind": "categorical", "rows": 4, "missing": 0, "values": 4}
    return ColumnStatistics(**{**rows, **values})


def test_a_missing_value_counts_as_a_value() -> None:
    before = DataStatistics(splits={"train": {"job": column(most_common={"a": 4})}})
    gone = column(most_common={}, missing=4, values=0)
    scan = Scan(DataStatistics(splits={"train": {"job": gone}}), {}, {})
    drift = measure_drift(scan, before)["job"]
    assert drift.distance == pytest.approx(1.0)
    assert dict(zip(drift.bins, drift.now, strict=True))["(missing)"] == 1.0


def test_a_column_of_another_kind_is_not_compared() -> None:
    before = DataStatistics(splits={"train": {"job": column(kind="numeric")}})
    scan = Scan(DataStatistics(splits={"train": {"job": column()}}), {}, {})
    assert measure_drift(scan, before) == {}
