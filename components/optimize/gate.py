"""What every pass must leave as it was: the signatures, and their answers on real rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.raw_examples import Array
from components.saved_models import LoadedModel
from contract.errors import DataError

_BATCH_ROWS = 256

Samples = Mapping[str, Mapping[str, Array]]  # by signature, then input: [rows, ...]
Answers = dict[str, dict[str, Array]]  # by signature, then output


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
            if not samples.get(name) or not len(next(iter(samples[name].values()))):
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

    def difference(self, candidate: LoadedModel) -> float:
        """Return the largest relative difference of any output; infinite where they do not match.

        Relative to the largest magnitude of that output over all rows (the maximum norm), because
        the relative error of a probability near 0 says nothing about the prediction. Outputs that
        are no floats must be equal.
        """
        if _description(candidate) != self.description:
            return math.inf
        found = answers(candidate, self.samples)
        return max(
            _relative_difference(value, found[signature][name])
            for signature, outputs in self.expected.items()
            for name, value in outputs.items()
        )


def answers(model: LoadedModel, samples: Samples) -> Answers:
    """Return each signature's outputs for all sample rows."""
    return {name: _answers(model, name, samples[name]) for name in model.module.signatures}


def _answers(model: LoadedModel, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
    signature, rows = model.signature(name), len(next(iter(inputs.values())))
    batches = [
        signature(**{k: tf.constant(v[start : start + _BATCH_ROWS]) for k, v in inputs.items()})
        for start in range(0, rows, _BATCH_ROWS)
    ]
    return {k: np.concatenate([batch[k].numpy() for batch in batches]) for k in batches[0]}


def _relative_difference(expected: Array, found: Array) -> float:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return math.inf
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if np.array_equal(expected, found) else math.inf
    if not expected.size or np.array_equal(expected, found, equal_nan=True):
        return 0.0
    difference = np.max(np.abs(expected.astype(np.float64) - found))
    scale = np.max(np.abs(expected))
    # NaN on one side only gives NaN here, which no tolerance may let through.
    return float(difference / scale) if scale > 0 and np.isfinite(difference) else math.inf


def _description(model: LoadedModel) -> dict[str, str]:
    """Return each signature's inputs and outputs with dtypes and shapes, as text to compare."""

    def specs(named: Mapping[str, tf.TensorSpec]) -> str:
        return ", ".join(f"{k}: {v.dtype.name}{v.shape}" for k, v in sorted(named.items()))

    return {
        name: f"({specs(model.input_specs(name))}) -> ({specs(function.structured_outputs)})"
        for name, function in model.module.signatures.items()
    }
