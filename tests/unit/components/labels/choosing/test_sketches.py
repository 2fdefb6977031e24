"""Rows are near by their inputs, whatever a few of the numbers are."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from components.labels.choosing.sketches import Sketches
from components.labels.choosing.variety import cells
from contract.schema.data import FeatureConfig


def groups(values: Sequence[object], shape: tuple[int, ...] = ()) -> int:
    """Return how many rows are asked about, of rows of one feature."""
    features = {"x": FeatureConfig(dtype="float32", shape=shape)}
    kind = pa.list_(pa.list_(pa.float32())) if shape else pa.float32()
    table = pa.table({"input:x": pa.chunked_array([pa.array(values, kind)])})
    vectors = Sketches(features).of(table)
    assert np.isfinite(vectors).all()
    return len({*cells(vectors, 0.02).tolist()})


@pytest.mark.parametrize("outlier", [1.0, 1e4, 1e6, 1e30, -3e38, np.inf, np.nan])
def test_one_outlier_makes_no_other_rows_alike(outlier: float) -> None:
    images = np.random.default_rng(0).random((220, 8, 8))
    images[7, 3, 3] = outlier
    assert groups(images.tolist(), (8, 8)) == 220


@pytest.mark.parametrize("outlier", [2.0, 1e30])
def test_rare_values_are_not_alike_beside_an_outlier(outlier: float) -> None:
    assert groups([*[0.0] * 997, 1.0, 1.0, outlier]) == 3
    assert groups([0.0, 1.0, outlier]) == 3


def test_the_unit_of_the_numbers_changes_nothing() -> None:
    ages = np.random.default_rng(0).normal(40, 10, 500)
    counted = {groups((ages * unit).astype(np.float32).tolist()) for unit in (1e-20, 1, 1e20)}
    assert len(counted) == 1 and 50 < counted.pop() < 400


def test_equal_pictures_are_alike_whatever_they_are_read_with() -> None:
    images = np.random.default_rng(0).random((40, 28, 28), np.float32)
    table = pa.table({"input:x": pa.array(images.tolist(), pa.list_(pa.list_(pa.float32())))})
    sketches = Sketches({"x": FeatureConfig(dtype="float32", shape=(28, 28))})
    together = sketches.of(table)
    alone = np.vstack([sketches.of(table.slice(first, 1)) for first in range(40)])
    assert (cells(alone, 0) == cells(together, 0)).all()


def test_rows_of_equal_numbers_are_one() -> None:
    assert groups([5.0] * 9) == groups([np.nan] * 9) == 1
