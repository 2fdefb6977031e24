"""Statistics gathered in batches equal those of the whole."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from components.validate.held_numbers import Numbers
from components.validate.statistics import (
    ColumnCollector,
    ColumnStatistics,
    count_in_bins,
    count_outside,
)

Kind = Literal["numeric", "categorical"]
NUMBERS = pa.large_list(pa.float32())
TEXTS = pa.large_list(pa.large_binary())


def found_in(kind: Kind, *batches: pa.Array) -> ColumnStatistics:
    collector, held = ColumnCollector(kind), list[Numbers]()
    for batch in batches:
        collector.add(batch, held.append)
    return collector.result(held)


def test_moments_of_batches_are_those_of_the_whole() -> None:
    values = np.random.default_rng(3).normal(1e6, 1.0, 5_000).astype(np.float32)
    parts = np.array_split(values, 7)
    found = found_in("numeric", *(pa.array([[v] for v in p.tolist()], NUMBERS) for p in parts))
    exact = values.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert found.deviation == pytest.approx(exact.std(), rel=1e-6)
    assert (found.minimum, found.maximum) == (exact.min(), exact.max())


def test_missing_rows_and_categories_are_counted() -> None:
    found = found_in("categorical", pa.array([[b"a"], None, [b"b", b"a"], []], TEXTS))
    assert (found.rows, found.missing, found.values) == (4, 2, 3)
    assert found.most_common == {"a": 2, "b": 1}
    assert found.distinct == 2
    assert found.missing_ratio == 0.5


def test_quantiles_are_evenly_spaced_ranks() -> None:
    found = found_in("numeric", pa.array([[float(n)] for n in range(1001)], NUMBERS))
    assert found.quantiles == pytest.approx(np.linspace(0, 1000, 21), abs=2)


def test_every_value_is_counted_in_the_bin_that_ends_at_the_next_quantile() -> None:
    parts = np.array_split(np.random.default_rng(5).normal(size=3_000).astype(np.float32), 4)
    found = found_in("numeric", *(pa.array([[v] for v in p.tolist()], NUMBERS) for p in parts))
    values, edges = np.concatenate(parts), np.array(found.bin_edges)
    below = [int((values <= edge).sum()) for edge in edges] + [3_000]
    assert found.bin_counts == tuple(np.diff(below, prepend=0).tolist())


def test_of_very_many_values_in_a_batch_a_sample_is_counted() -> None:
    numbers = pa.LargeListArray.from_arrays([0, 250_000], np.arange(250_000, dtype=np.float32))
    found = found_in("numeric", numbers)
    assert (found.values, sum(found.bin_counts)) == (250_000, 100_000)


def test_a_column_without_values_has_no_figures() -> None:
    found = found_in("numeric", pa.array([None, []], NUMBERS))
    assert (found.missing, found.mean, found.bin_edges) == (2, None, ())


def test_a_value_on_an_edge_belongs_to_the_bin_below() -> None:
    parts = [np.array([0.0, 1.0, 1.5]), np.array([2.0, 9.0])]
    assert count_in_bins(parts, (1.0, 2.0)).tolist() == [2, 2, 1]


def test_values_outside_a_domain_are_counted() -> None:
    column = pa.array([[b"a", b"x"], None, [b"y"]], TEXTS)
    assert count_outside(column, pa.array([b"a"], pa.large_binary())) == 2
