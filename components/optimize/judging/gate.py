"""What every pass must leave as it was: the signatures, and their answers on real rows."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.data.raw_examples import Array
from components.models.saved_models import LoadedModel
from components.optimize.judging.batches import Answers, Samples, answers, row_count
from contract.errors import DataError

__all__ = ["Difference", "Gate", "Samples", "answers"]


@dataclass(frozen=True)
class Difference:
    """How far answers are from the original's, over all signatures, float outputs and rows.

    Attributes:
        largest: Largest absolute difference of any number.
        mean: Mean absolute difference of all numbers.
        relative: Largest difference of an output, relative to its largest magnitude over all rows
            (the maximum norm): the relative error of a probability near 0 says nothing about the
            prediction. Infinite if a signature, a shape or an output other than floats differs.
    """

    largest: float = 0.0
    mean: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True)
class Gate:
    """The original's signatures and answers, against which each pass is held."""

    samples: Samples
    expected: Answers
    description: dict[str, str]

    @classmethod
    def of(cls, original: LoadedModel, samples: Samples) -> "Gate":
        """Let the original answer the sample rows.

        Raises:
            DataError: If there are no rows, or they do not fit a signature.
        """
        for name in original.module.signatures:
            if original.input_specs(name) and not row_count(samples.get(name, {})):
                raise DataError(
                    f"{original.path}: no rows to compare signature '{name}' on; "
                    "the optimiser needs at least one"
                )
        try:
            expected = answers(original, samples)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise DataError(
                f"{original.path}: the rows given do not fit its signatures: {error}"
            ) from error
        return cls(samples, expected, _description(original))

    def difference(self, candidate: LoadedModel) -> Difference:
        """Return how far the candidate's answers are from the original's."""
        if _description(candidate) != self.description:
            return Difference(math.inf, math.inf, math.inf)
        found = answers(candidate, self.samples)
        each = [_difference(*pair) for pair in _pairs(self.expected, found)]
        counts = [value.size for value, _ in _pairs(self.expected, found)]
        return Difference(
            max(one.largest for one in each),
            float(np.average([one.mean for one in each], weights=np.maximum(counts, 1))),
            max(one.relative for one in each),
        )


def _pairs(expected: Answers, found: Answers) -> Iterator[tuple[Array, Array]]:
    for signature, outputs in expected.items():
        for name, value in outputs.items():
            yield value, found[signature][name]


def _difference(expected: Array, found: Array) -> Difference:
    never = Difference(math.inf, math.inf, math.inf)
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return never
    if not np.issubdtype(expected.dtype, np.floating):
        return Difference() if np.array_equal(expected, found) else never
    if not expected.size or np.array_equal(expected, found, equal_nan=True):
        return Difference()
    apart = np.abs(expected.astype(np.float64) - found)
    largest, scale = float(np.max(apart)), float(np.max(np.abs(expected)))
    # NaN on one side only gives NaN here, which no tolerance may let through.
    if not math.isfinite(largest) or scale == 0:
        return never
    return Difference(largest, float(np.mean(apart)), largest / scale)


def _description(model: LoadedModel) -> dict[str, str]:
    """Return each signature's inputs and outputs with dtypes and shapes, as text to compare."""

    def specs(named: Mapping[str, tf.TensorSpec]) -> str:
        return ", ".join(f"{k}: {v.dtype.name}{v.shape}" for k, v in sorted(named.items()))

    return {
        name: f"({specs(model.input_specs(name))}) -> ({specs(function.structured_outputs)})"
        for name, function in model.module.signatures.items()
    }
