"""Loss scaling for mixed_float16: gradients too small for 16 bits are made larger and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

_INITIAL, _LEAST = 2.0**15, 1.0
_GROWTH_STEPS = 2000


class LossScale:
    """A factor that doubles after 2,000 good steps and halves after one that overflowed, down to 1.

    A step whose gradients overflowed is skipped, in all processes alike: they look at the same sum.
    Keras's LossScaleOptimizer does the same, but decides inside the optimizer, where a mirrored
    strategy cannot branch, and after we would have clipped.

    Source:
        Micikevicius et al. (2018), "Mixed precision training", ICLR; Keras's constants.
    """

    def __init__(self) -> None:
        self._scale = tf.Variable(_INITIAL, trainable=False, name="loss_scale")
        self._good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")

    def value(self) -> tf.Tensor:
        """Return the factor, a scalar."""
        return tf.convert_to_tensor(self._scale)

    def unscaled(self, gradients: Sequence[Any]) -> list[Any]:
        """Divide the factor out of gradients."""
        return [
            None if g is None else tf.convert_to_tensor(g) / tf.cast(self._scale, g.dtype)
            for g in gradients
        ]

    def update(self, is_finite: tf.Tensor) -> dict[str, tf.Tensor]:
        """Count a step; return `loss_scale` as it was in it, and whether it `is_skipped`."""
        before = tf.identity(self.value())
        good = tf.where(is_finite, self._good_steps + 1, tf.zeros([], tf.int64))
        has_grown = good >= _GROWTH_STEPS
        with tf.control_dependencies([before]):
            scale = tf.where(is_finite, before, tf.maximum(before / 2.0, _LEAST))
            self._scale.assign(tf.where(has_grown, scale * 2.0, scale))
            self._good_steps.assign(tf.where(has_grown, tf.zeros([], tf.int64), good))
        return {"loss_scale": before, "is_skipped": tf.logical_not(is_finite)}

    def state(self) -> list[float]:
        """Return what a checkpoint keeps of it."""
        return [float(self._scale), float(self._good_steps)]

    def restore(self, state: Sequence[float]) -> None:
        """Continue from a checkpoint's state."""
        self._scale.assign(state[0])
        self._good_steps.assign(int(state[1]))


def is_forgiven(figures: Mapping[str, Any]) -> bool:
    """Tell whether a step was skipped because its scale was too large; a smaller one may help."""
    return bool(figures.get("is_skipped")) and float(figures["loss_scale"]) > _LEAST
