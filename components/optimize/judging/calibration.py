"""Which range of values 8 bits should span, for each tensor that a linear layer reads.

`minmax` spans all values seen. `kl` may cut off rare large ones, so that the many small ones get
finer steps: of all thresholds on the magnitude it takes the one whose 8-bit histogram loses least
information (Kullback–Leibler divergence) of the 2048-bin histogram.

Source:
    Migacz (2017), "8-bit Inference with TensorRT", GPU Technology Conference, slides 36–39. We
    depart in four points: a tensor that is never negative gets 255 steps and not 127; exact zeros
    do not count, for 8 bits represent them exactly; empty bins of the 8-bit histogram get a
    hundred-thousandth of an example, where the divergence would be infinite; and of the candidate
    thresholds every eighth bin is tried.

The same rows give the same ranges: no sampling, no random numbers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from components.data.raw_examples import Array
from components.optimize.graph.editing import GraphEdit
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.graph.layers import data_tensors
from components.optimize.judging.batches import feed, row_count
from contract.errors import DataError
from contract.records.optimization import TensorRange
from contract.schema.passes import CalibrationMethod

BINS = 2048
_BATCH_ROWS = 32
_SIGNED_STEPS, _UNSIGNED_STEPS = 127, 255
_BINS_APART = 8
_ALMOST_NOTHING = 1e-5


@dataclass(frozen=True)
class TensorValues:
    """What a tensor held on the calibration rows.

    Attributes:
        tensor: Its name, `node:0`.
        layer: The linear layer that reads it, the first of several.
        low, high: Least and largest value.
        counts: int64 `[2048]`: how many values other than 0 have a magnitude in each of the equal
            bins from 0 to the largest magnitude.
    """

    tensor: str
    layer: str
    low: float
    high: float
    counts: Array

    @property
    def magnitude(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    def range(self, method: CalibrationMethod) -> TensorRange:
        """Return the range that 8 bits should span; it holds 0."""
        steps = _UNSIGNED_STEPS if self.low >= 0 else _SIGNED_STEPS
        most = self.magnitude
        if method == "kl":
            most = kl_threshold(self.counts, steps) * self.magnitude / BINS
        return TensorRange(
            tensor=self.tensor,
            layer=self.layer,
            low=min(0.0, max(self.low, -most)),
            high=max(0.0, min(self.high, most)),
            seen_low=self.low,
            seen_high=self.high,
        )


def observe(model: GraphModel, samples: Mapping[str, Mapping[str, Array]]) -> list[TensorValues]:
    """Run the rows through every signature; return what each linear layer's data held.

    Two passes over the rows: the first finds the least and largest value, the second counts.

    Args:
        model: With constant weights (after `freeze_graph`).
        samples: Rows by signature and input, `[rows, ...]`.

    Raises:
        DataError: If there are no rows, they do not fit, or make values that are not finite.
    """
    seen: dict[str, TensorValues] = {}
    for name, signature in model.signatures.items():
        if not signature.inputs:
            continue  # its answers are constants
        if not row_count(samples.get(name, {})):
            raise DataError(f"calibration: no rows for signature '{name}'; at least one is needed")
        try:
            values = _observe(signature, samples[name])
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise DataError(
                f"calibration: the rows do not fit signature '{name}': {str(error)[:300]}"
            ) from error
        for one in values:
            seen.setdefault(one.tensor, one)
    return list(seen.values())


def calibrate(
    model: GraphModel, samples: Mapping[str, Mapping[str, Array]], method: CalibrationMethod
) -> list[TensorRange]:
    """Return the range of each tensor that a linear layer reads; see `observe`."""
    return [values.range(method) for values in observe(model, samples)]


def kl_threshold(counts: Array, steps: int) -> int:
    """Return at which bin to cut a histogram of magnitudes; from `steps` to its length.

    Args:
        counts: Histogram of magnitudes, `[bins]`.
        steps: How many steps 8 bits have for them: 127 with a sign, 255 without.
    """
    if not np.any(counts):
        return len(counts)
    candidates = [*range(steps + 1, len(counts), _BINS_APART), len(counts)]
    divergences = [_divergence(counts, stop, steps) for stop in candidates]
    return int(candidates[int(np.argmin(divergences))])


def _divergence(counts: Array, stop: int, steps: int) -> float:
    """Return how much information the histogram loses if it is cut at `stop` and put in steps."""
    inside = counts[:stop].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += counts[stop:].sum()  # what is cut off becomes the largest value
    starts = (np.arange(steps) * stop) // steps
    sums = np.add.reduceat(inside, starts)
    filled = np.add.reduceat((inside > 0).astype(np.float64), starts)
    widths = np.diff([*starts, stop])
    # Each step's examples are spread evenly over its bins that were not empty.
    level = np.divide(sums, filled, out=np.zeros(steps), where=filled > 0)
    stepped = np.where(inside > 0, np.repeat(level, widths), 0.0)
    if not sums.any():
        return math.inf
    stepped = np.where((clipped > 0) & (stepped == 0), _ALMOST_NOTHING, stepped)
    p, q = clipped / clipped.sum(), stepped / stepped.sum()
    is_there = p > 0
    return float(np.sum(p[is_there] * np.log(p[is_there] / q[is_there])))


def _observe(signature: SignatureGraph, inputs: Mapping[str, Array]) -> list[TensorValues]:
    layers = data_tensors(GraphEdit(signature))
    if not layers:
        return []
    call = _with_outputs(signature, list(layers))
    bounds = tf.function(lambda **given: {n: _bounds(t) for n, t in call(**given).items()})
    low, high = dict.fromkeys(layers, math.inf), dict.fromkeys(layers, -math.inf)
    for given in _batches(inputs):
        for tensor, (least, largest) in bounds(**given).items():
            low[tensor] = float(np.minimum(low[tensor], least))  # hands NaN on, unlike min()
            high[tensor] = float(np.maximum(high[tensor], largest))
    for tensor in layers:
        if not (math.isfinite(low[tensor]) and math.isfinite(high[tensor])):
            raise DataError(
                f"calibration: '{tensor}' (read by '{layers[tensor]}') holds values from "
                f"{low[tensor]:g} to {high[tensor]:g}; expected finite ones"
            )
    most = {tensor: max(abs(low[tensor]), abs(high[tensor])) for tensor in layers}
    counts = _histograms(call, inputs, most)
    return [TensorValues(t, layers[t], low[t], high[t], counts[t]) for t in layers]


def _histograms(
    call: Callable[..., dict[str, Any]], inputs: Mapping[str, Array], most: Mapping[str, float]
) -> dict[str, Array]:
    @tf.function
    def count(**given: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: _counts(tensor, most[name]) for name, tensor in call(**given).items()}

    counts = {tensor: np.zeros(BINS, np.int64) for tensor in most}
    for given in _batches(inputs):
        for tensor, added in count(**given).items():
            counts[tensor] += added.numpy()
    return counts


def _batches(inputs: Mapping[str, Array]) -> list[dict[str, tf.Tensor]]:
    starts = range(0, row_count(inputs), _BATCH_ROWS)
    return [feed(inputs, slice(start, start + _BATCH_ROWS)) for start in starts]


def _with_outputs(signature: SignatureGraph, tensors: list[str]) -> Callable[..., dict[str, Any]]:
    """Return a function that answers inner tensors, by name."""
    spec = tf.TensorSpec(None, tf.float32)
    keys = {f"tensor_{number}": tensor for number, tensor in enumerate(tensors)}
    outputs = {key: (tensor, spec) for key, tensor in keys.items()}
    function = replace(signature, outputs=outputs, composites={}).concrete()
    return lambda **given: {keys[key]: value for key, value in function(**given).items()}


def _bounds(tensor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    # NaN must show: TensorFlow's minimum and maximum may pass over it.
    is_finite = tf.reduce_all(tf.math.is_finite(tensor))
    nan = tf.constant(math.nan)
    least = tf.where(is_finite, tf.reduce_min(tensor), nan)
    return least, tf.where(is_finite, tf.reduce_max(tensor), nan)


def _counts(tensor: tf.Tensor, most: float) -> tf.Tensor:
    """Return how many magnitudes other than 0 are in each bin, int64 `[2048]`."""
    flat = tf.abs(tf.reshape(tensor, [-1]))
    zeros = tf.reduce_sum(tf.cast(tf.equal(flat, 0.0), tf.int64))
    counts = tf.histogram_fixed_width(flat, [0.0, max(most, 1e-30)], BINS, tf.int64)
    return tf.tensor_scatter_nd_sub(counts, [[0]], [zeros])
