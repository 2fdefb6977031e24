"""Rows that people were asked about before: what is nearly the same is not asked again."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.labels.choosing.sketches import Sketches
from components.labels.choosing.variety import cells
from contract.prediction_log.columns import INPUT, input_type
from contract.records.package import InputSpec
from contract.schema.data import FeatureConfig

Inputs = Mapping[str, Any]  # of a row, by name

_AT_ONCE = 1_000


def asked_cells(
    rows: Iterable[Inputs],
    features: Mapping[str, FeatureConfig],
    sketches: Sketches,
    tolerance: float,
) -> NDArray[np.uint64]:
    """Return the cells of the grid in which rows lie, each once.

    Rows whose inputs are no longer those of the config are like no other.

    Args:
        rows: Their inputs, as the prediction log has them.
        features: Of the config.
        sketches: Those of the rows among which is chosen, with their scales.
        tolerance: Width of a cell.
    """
    found = np.zeros(0, np.uint64)
    for table in _tables(rows, features):
        found = np.union1d(found, cells(sketches.of(table), tolerance))
    return found


def _tables(rows: Iterable[Inputs], features: Mapping[str, FeatureConfig]) -> Iterator[pa.Table]:
    left = iter(rows)
    while some := [*islice(left, _AT_ONCE)]:
        usable = [row for row in some if _fits(row, features)]
        try:
            yield _table(usable, features)
        except pa.ArrowException:
            yield from (one for row in usable for one in _table_of_one(row, features))


def _fits(row: Inputs, features: Mapping[str, FeatureConfig]) -> bool:
    """Tell whether a row has all inputs, in the shapes of the config; None is NaN."""
    return all(
        name in row and (feature.is_variable_length or _shape(row[name]) == feature.shape)
        for name, feature in features.items()
    )


def _shape(value: Any) -> tuple[int, ...]:
    """Return the length of a list and of the lists in it, which are as long as the first one."""
    if not isinstance(value, list):
        return ()
    inner = {_shape(one) for one in value}
    return (len(value), *(inner.pop() if len(inner) == 1 else (-1,)))


def _table(rows: Iterable[Inputs], features: Mapping[str, FeatureConfig]) -> pa.Table:
    columns = {
        INPUT + name: pa.array([row[name] for row in rows], input_type(InputSpec.of(feature)))
        for name, feature in features.items()
    }
    return pa.table(columns)


def _table_of_one(row: Inputs, features: Mapping[str, FeatureConfig]) -> Iterator[pa.Table]:
    try:
        yield _table([row], features)
    except pa.ArrowException:
        return
