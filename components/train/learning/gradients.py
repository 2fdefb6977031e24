"""One replica's share of loss and gradients: by the tape, by the user's `train_step`, in parts."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from components.data.examples import Batch
from components.models.model_hooks import MODEL_FILE
from components.models.user_code import user_code
from components.models.user_model import head_outputs
from components.train.learning.learner import Learner
from components.train.learning.losses import ExampleLosses, Tensors, example_losses
from contract.errors import UserCodeError

Gradients = list[Any]  # dense tensors, or IndexedSlices of embeddings; None where there is none
GradientFunction = Callable[[Batch, tf.Tensor], tuple[tf.Tensor, Gradients]]


def gradient_function(learner: Learner) -> GradientFunction:
    """Return `(batch, weight of the whole batch) -> (share of the loss, gradients)`.

    Under mixed_float16 the gradients are scaled, the loss is not. XLA compiles it if asked for;
    with `accumulation_steps` the batch is divided into this many parts, one after the other.
    """
    parts = learner.config.train.accumulation_steps
    one = _of_one_part(learner, parts)
    whole = one if parts == 1 else _accumulated(one, parts, learner.model)
    if learner.config.train.jit_compile:
        return tf.function(whole, autograph=False, jit_compile=True)  # type: ignore[no-any-return]
    return whole


def _of_one_part(learner: Learner, parts: int) -> GradientFunction:
    losses = example_losses(learner.config, learner.hooks)
    own_step = learner.hooks.train_step
    shares = learner.shares
    model, scale = learner.model, learner.loss_scale

    def compute(batch: Batch, weight: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        factor = 1.0 if scale is None else scale.value()

        def share(labels: Tensors, outputs: Tensors, weights: tf.Tensor) -> tf.Tensor:
            total = tf.reduce_sum(losses(labels, outputs, weights))
            penalties = [tf.cast(loss, tf.float32) for loss in model.losses]
            penalty = sum(penalties, 0.0) / (shares * parts)
            return factor * (tf.math.divide_no_nan(total, weight) + penalty)

        if own_step is not None:
            loss, gradients = _users_step(own_step, model, batch, share)
        else:
            with tf.GradientTape() as tape:
                outputs = head_outputs(model, learner.config, batch.features, training=True)
                loss = share(batch.labels, outputs, batch.weights)
            gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        return loss / factor, gradients

    return compute


def _accumulated(one: GradientFunction, parts: int, model: keras.Model) -> GradientFunction:
    """Return a function that goes through a batch in parts and sums what they give.

    A loop, not copies of the graph: copies could run side by side, and save no memory.
    """

    def compute(batch: Batch, weight: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        examples = tf.shape(batch.weights)[0]
        is_touched: list[bool] = []

        def body(part: tf.Tensor, loss: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
            first, last = examples * part // parts, examples * (part + 1) // parts
            rows = tf.nest.map_structure(lambda column: column[first:last], batch)
            more, gradients = one(rows, weight)
            is_touched[:] = [gradient is not None for gradient in gradients]
            added = [
                total if gradient is None else total + tf.convert_to_tensor(gradient)
                for total, gradient in zip(sums, gradients, strict=True)
            ]
            return [part + 1, loss + more, *added]

        zeros = [tf.zeros(v.shape, v.dtype) for v in model.trainable_variables]
        _, loss, *sums = tf.while_loop(
            lambda part, *_: part < parts,
            body,
            [tf.constant(0), tf.constant(0.0), *zeros],
            parallel_iterations=1,
        )
        return loss, [s if found else None for s, found in zip(sums, is_touched, strict=True)]

    return compute


def _users_step(
    hook: Callable[..., Any], model: keras.Model, batch: Batch, share: ExampleLosses
) -> tuple[tf.Tensor, Gradients]:
    where = f"{MODEL_FILE}: train_step"
    with user_code(where):
        found = hook(model, dict(batch.features), dict(batch.labels), batch.weights, share)
    wanted = len(model.trainable_variables)
    is_pair = isinstance(found, Sequence) and len(found) == 2
    if not is_pair or not isinstance(found[1], Sequence) or len(found[1]) != wanted:
        raise UserCodeError(
            f"{where}: expected (loss, gradients) with {wanted} gradients, one per trainable "
            f"variable; found {_in_words(found)}"
        )
    loss = tf.cast(tf.convert_to_tensor(found[0]), tf.float32)
    if loss.shape.rank != 0:
        raise UserCodeError(f"{where}: loss has shape {loss.shape}; expected a scalar")
    for variable, gradient in zip(model.trainable_variables, found[1], strict=True):
        if gradient is not None and not gradient.shape.is_compatible_with(variable.shape):
            raise UserCodeError(
                f"{where}: the gradient of '{variable.path}' has shape {gradient.shape}; expected "
                f"{tuple(variable.shape)}"
            )
    return loss, list(found[1])


def _in_words(found: object) -> str:
    if isinstance(found, Sequence):
        return f"{type(found).__name__} of {len(found)}"
    return type(found).__name__
