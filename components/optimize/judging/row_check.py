"""A SavedModel whose answers depend on more than the row cannot be compared with anything."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from components.data.raw_examples import Array
from components.models.saved_models import LoadedModel
from components.optimize.judging.batches import (
    Answers,
    Samples,
    answer,
    answers,
    is_ragged,
    row_count,
)
from components.quality.answer_distances import distances, usual_size
from components.quality.model_rows import exact_float32
from components.quality.row_dependence import Cause, Dependence, in_words
from components.quality.row_independence import (
    TOLERANCE,
    Limits,
    Row,
    Subject,
    find_dependence,
    telling_rows,
)
from contract.errors import UserCodeError
from contract.model_io import DEFAULT_SIGNATURE

Call = Callable[..., Mapping[str, Any]]
Fillers = Mapping[str, Any]  # by input that holds lists, what a list is filled up with


def require_repeatable(
    model: LoadedModel, samples: Samples, expected: Answers, tolerance: float
) -> None:
    """Call every signature with the sample rows once more.

    Args:
        model: A SavedModel.
        samples: Rows for its signatures.
        expected: What it has answered to them.
        tolerance: The largest difference of a row's answer, relative to its size.

    Raises:
        UserCodeError: If an answer is another one now.
    """
    again = answers(model, samples)
    for outputs, others in zip(expected.values(), again.values(), strict=True):
        for name, one in outputs.items():
            apart = distances(one, others[name], usual_size(one))
            if (largest := float(np.max(apart, initial=0.0))) > tolerance:
                sentence = in_words(Dependence(Cause.CALLS, name, largest))
                raise UserCodeError(f"{model.path}: {sentence}")


def require_independent_rows(
    model: LoadedModel, inputs: Mapping[str, Array], fillers: Fillers, tolerance: float = TOLERANCE
) -> None:
    """Let `serving_default` answer some rows together and alone.

    Outputs that are not numbers or text by row (ragged, sparse, one for all) are not looked at.

    Args:
        model: A SavedModel.
        inputs: Columns, `[rows, ...]`; lists are ragged, or filled up to the longest.
        fillers: What those are filled up with; a column that has none is taken as it is.
        tolerance: The largest difference of a row's answer, relative to its size.

    Raises:
        UserCodeError: If an answer depends on more than its row; with the cause.
    """
    call = _by_row(model.signature(DEFAULT_SIGNATURE), inputs)
    ragged = {name for name, column in inputs.items() if is_ragged(column)}
    subject = Subject(_asking(call, inputs, fillers), frozenset(fillers) | ragged)
    if found := find_dependence(subject, _rows(inputs, fillers), Limits(tolerance)):
        raise UserCodeError(
            f"{model.path}: {in_words(found)}. No engine can be held to answers that change"
        )


# --- inside -------------------------------------------------------------------------------------


def _by_row(call: Call, inputs: Mapping[str, Array]) -> Call:
    """Return the signature without the outputs that are not one a row."""
    count = row_count(inputs)
    by_row = [name for name, one in answer(call, inputs).items() if one.shape[:1] == (count,)]

    def called(**tensors: Any) -> dict[str, Any]:
        outputs = call(**tensors)
        return {name: outputs[name] for name in by_row if name in outputs}

    return called


def _asking(
    call: Call, inputs: Mapping[str, Array], fillers: Fillers
) -> Callable[[Sequence[Row]], dict[str, Array]]:
    def ask(rows: Sequence[Row]) -> dict[str, Array]:
        columns = {
            name: _filled([row[name] for row in rows], column, fillers.get(name))
            for name, column in inputs.items()
        }
        with exact_float32():
            return answer(call, columns)

    return ask


def _rows(inputs: Mapping[str, Array], fillers: Fillers) -> list[Row]:
    is_value = {name: _is_value(inputs[name], filler) for name, filler in fillers.items()}
    lengths = {name: each.sum(axis=1).tolist() for name, each in is_value.items()}
    lengths |= {n: [len(row) for row in c] for n, c in inputs.items() if is_ragged(c)}
    return [
        {
            name: column[row][is_value[name][row]] if name in is_value else column[row]
            for name, column in inputs.items()
        }
        for row in telling_rows(lengths, row_count(inputs))
    ]


def _is_value(column: Array, filler: Any) -> Array:
    """Return where a column holds no filler, `[rows, longest]`."""
    if isinstance(filler, float) and np.isnan(filler):
        return np.asarray(~np.isnan(column))
    return np.asarray(column != filler)


def _filled(values: Sequence[Any], column: Array, filler: Any) -> Array:
    """Return a column of some rows, lists filled up to the longest of them."""
    if filler is None and is_ragged(column):
        rows = np.empty(len(values), object)
        for row, value in enumerate(values):
            rows[row] = value
        return rows
    if filler is None:
        return np.array(values, column.dtype)
    filled: Array = np.full((len(values), max(map(len, values))), filler, column.dtype)
    for row, value in enumerate(values):
        filled[row, : len(value)] = value
    return filled
