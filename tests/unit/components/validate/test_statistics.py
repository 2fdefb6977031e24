"""Statistics gathered in batches equal those of the whole."""

import numpy as np
import pyarrow as pa
import pytest

from components.validate.statistics import ColumnCollector, count_in_bins, count_outside

NUMBERS = pa.large_list(pa.float32())
TEXTS = pa.large_list(pa.large_binary())


def test_moments_of_batches_are_those_of_the_whole() -> None:
    values = np.random.default_rng(3).normal(1e6, 1.0, 5_000).astype(np.float32)
    collector = ColumnCollector("numeric")
    for part in np.array_split(values, 7):
        collector.add(pa.array([[value] for value in part.tolist()], NUMBERS))
    found = collector.result()
    exact = values.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert found.deviation == pytest.approx(exact.std(), rel=1e-6)
    assert (found.minimum, found.maximum) == (exact.min(), exact.max())


def test_missing_rows_and_categories_are_counted() -> None:
    collector = ColumnCollector("categorical")
    collector.add(pa.array([[b"a"], None, [b"b", b"a"], []], TEXTS))
    found = collector.result()
    assert (found.rows, found.missing, found.values) == (4, 2, 3)
    assert found.most_common == {"a": 2, "b": 1}
    assert found.distinct == 2
    assert found.missing_ratio == 0.5


def test_quantiles_are_evenly_spaced_ranks() -> None:
    collector = ColumnCollector("numeric")
    collector.add(pa.array([[float(n)] for n in range(1001)], NUMBERS))
    assert collector.result().quantiles == pytest.approx(np.linspace(0, 1000, 21), abs=2)


def test_a_column_without_values_has_no_figures() -> None:
    collector = ColumnCollector("numeric")
    collector.add(pa.array([None, []], NUMBERS))
    found = collector.result()
    assert (found.missing, found.mean, found.bin_edges) == (2, None, ())


def test_a_value_on_an_edge_belongs_to_the_bin_below() -> None:
    column = pa.array([[0.0], [1.0], [1.5], [2.0], [9.0]], NUMBERS)
    assert count_in_bins(column, (1.0, 2.0)).tolist() == [2, 2, 1]


def test_values_outside_a_domain_are_counted() -> None:
    column = pa.array([[b"a", b"x"], None, [b"y"]], TEXTS)
    assert count_outside(column, pa.array([b"a"], pa.large_binary())) == 2
