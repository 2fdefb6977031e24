"""How well each feature alone predicts each label: fitted on rows of train, judged on rows of eval.

A feature predicts what rows with its category, or with a number in the same bin, have most often
(or on average). Features with a shape and lists are left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.data.raw_examples import label_dtype, read_arrow
from contract.model_io import label_key
from contract.schema.pipeline import PipelineConfig

Array = npt.NDArray[Any]

_MOST_SHARDS = 3  # of which the first batch of rows is looked at
_FEWEST_ROWS = 100  # of either split; with fewer, chance finds a rule
_ROWS_IN_BIN = 5  # small, so that few rows of a rare class share one with others
_FEWEST_IN_BIN = 3


def single_skills(
    config: PipelineConfig, shards: Mapping[str, Sequence[Path]]
) -> dict[str, dict[str, float]]:
    """Return each feature's skill by head: the share of a constant's error that it avoids.

    The error is the share of wrong classes, or the mean square of a regression. A skill is at most
    1, and 0 if the feature is of no use; heads with one label only have no skills.
    """
    train, judged = (_rows(config, shards[split]) for split in ("train", "eval"))
    if min(train.num_rows, judged.num_rows) < _FEWEST_ROWS:
        return {}
    skills: dict[str, dict[str, float]] = {}
    for head in config.heads:
        is_number = label_dtype(config, head) == "float32"
        labels = [_scalars(rows[label_key(head)]) for rows in (train, judged)]
        base = _error(labels[1], _constant(labels[0], is_number), is_number)
        if base == 0.0:
            continue
        skills[head] = {}
        for name, feature in config.features.items():
            if feature.shape or feature.is_variable_length:
                continue
            values = [_scalars(rows[name]) for rows in (train, judged)]
            error = _error(labels[1], _predicted(values, labels[0], is_number), is_number)
            skills[head][name] = max(0.0, 1.0 - error / base)
    return skills


# --- inside -------------------------------------------------------------------------------------


def _rows(config: PipelineConfig, shards: Sequence[Path]) -> pa.Table:
    """Return rows of shards from everywhere in a split; a shard's rows are in no order."""
    places = np.unique(np.linspace(0, len(shards) - 1, _MOST_SHARDS).round().astype(int))
    batches = [next(read_arrow([shards[place]], config), None) for place in places.tolist()]
    return pa.Table.from_batches([batch for batch in batches if batch is not None])


def _scalars(column: pa.ChunkedArray) -> Array:
    """Return one value a row; missing are NaN, or empty text."""
    lists = column.combine_chunks()
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = lists.flatten()
    is_text = pa.types.is_large_binary(values.type) or pa.types.is_binary(values.type)
    found: Array = np.full(len(lengths), b"" if is_text else np.nan, object if is_text else float)
    found[lengths > 0] = values.to_numpy(zero_copy_only=False)
    return found


def _bins(known: Array, asked: Array) -> tuple[Array, Array]:
    """Return in which bin each value is: numbers in bins of equal count, categories by themselves.

    Values of `asked` that are none of the categories are in the bin -1; missing numbers have one.
    """
    if known.dtype == object:
        places = {name: place for place, name in enumerate({*known.tolist()})}
        return tuple(  # type: ignore[return-value]
            np.array([places.get(name, -1) for name in names.tolist()]) for names in (known, asked)
        )
    there = known[~np.isnan(known)]
    edges = np.unique(np.sort(there)[_ROWS_IN_BIN::_ROWS_IN_BIN])
    found = [np.searchsorted(edges, numbers) for numbers in (known, asked)]
    return tuple(  # type: ignore[return-value]
        np.where(np.isnan(numbers), len(edges) + 1, place)
        for numbers, place in zip((known, asked), found, strict=True)
    )


def _predicted(values: Sequence[Array], labels: Array, is_number: bool) -> Array:
    """Return what the bins of the second values have in the first: the mean, or the commonest."""
    known, asked = _bins(*values)
    size = int(max(known.max(), asked.max())) + 2  # the last one, -1, is for what is not known
    counts = np.bincount(known, minlength=size)
    if is_number:
        rule = np.bincount(known, labels, minlength=size) / np.maximum(counts, 1)
    else:
        pairs, rows = np.unique(np.stack([known, labels]), axis=1, return_counts=True)
        rising = np.argsort(rows, kind="stable")  # the last entry of a bin is its commonest class
        rule = np.zeros(size)
        rule[pairs[0, rising].astype(int)] = pairs[1, rising]
    rule = np.where(counts >= _FEWEST_IN_BIN, rule, _constant(labels, is_number))
    predicted: Array = rule[asked]
    return predicted


def _constant(labels: Array, is_number: bool) -> float:
    return float(labels.mean()) if is_number else float(np.bincount(labels.astype(int)).argmax())


def _error(labels: Array, predicted: Array | float, is_number: bool) -> float:
    return float(((labels - predicted) ** 2).mean() if is_number else (labels != predicted).mean())
