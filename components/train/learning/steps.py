"""One step of learning on all replicas.

What must be done once is done once (each of these is silently wrong otherwise): the loss is divided
by the weight of the *whole* batch, gradients are summed over the replicas once, clipped after that,
steps are counted here, and moving statistics are averaged, so that replicas do not drift apart.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from components.data.examples import Batch
from components.models.model_hooks import MODEL_FILE
from components.train.learning.gradients import Gradients, gradient_function
from components.train.learning.learner import Learner
from contract.errors import UserCodeError

Figures = dict[str, tf.Tensor]
StepFunction = Callable[[Iterator[Any]], Figures]

_SUM = tf.distribute.ReduceOp.SUM
_SHOWN = 5  # variables in a warning

log = logging.getLogger("slipway")


def step_function(learner: Learner, batch_examples: int) -> StepFunction:
    """Return the traced step: takes the next batch from an iterator, learns, returns figures.

    Args:
        learner: Whose variables it changes.
        batch_examples: In the batch of all replicas.

    Returns:
        A function to scalars by name: `loss`, the weighted mean over the batch of all replicas plus
        the model's own penalties; `input_seconds`, for which this process waited for its batch (0
        with `is_deterministic`); `gradient_norm` before it was clipped, where `train.clip_norm` is
        set; `is_skipped` and `loss_scale` under mixed_float16.
    """
    strategy = learner.strategy
    compute = replica_function(learner, batch_examples)

    def now() -> tf.Tensor:
        if learner.config.train.is_deterministic:
            return tf.zeros([], tf.float64)  # TensorFlow refuses to read a clock then
        return tf.timestamp()

    # autograph would rewrap the errors of user code, and needs nothing here
    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def step(batches: Iterator[Any]) -> Figures:
        started = now()
        with tf.control_dependencies([started]):
            batch = next(batches)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            input_seconds = now() - started
        figures, gradients = strategy.run(compute, args=(batch,))
        figures = {name: _local(strategy, value) for name, value in figures.items()}
        if learner.loss_scale is None:
            strategy.run(lambda found: apply(learner, found), args=(gradients,))
        else:
            figures |= learner.loss_scale.update(figures.pop("is_finite"))
            tf.cond(
                figures["is_skipped"],
                lambda: None,
                lambda: strategy.run(lambda found: apply(learner, found), args=(gradients,)),
            )
        return {**figures, "input_seconds": input_seconds}

    return step  # type: ignore[no-any-return]


def replica_function(
    learner: Learner, batch_examples: int
) -> Callable[[Batch], tuple[Figures, Gradients]]:
    """Return what a replica does up to the gradients of all, which are clipped and unscaled."""
    compute = gradient_function(learner)
    has_weights = learner.config.weight is not None

    def replica_step(batch: Batch) -> tuple[Figures, Gradients]:
        replicas = tf.distribute.get_replica_context()
        weight = tf.constant(float(batch_examples))
        if has_weights:
            weight = replicas.all_reduce(_SUM, tf.reduce_sum(batch.weights))
        loss, gradients = compute(batch, weight)
        share = tf.cast(tf.shape(batch.weights)[0], tf.float32) / float(batch_examples)
        loss, gradients = _reduced(learner, share, loss, gradients)
        figures = {"loss": loss}
        if learner.loss_scale is not None:
            gradients = learner.loss_scale.unscaled(gradients)
            figures["is_finite"] = _are_finite(gradients)
        if learner.config.train.clip_norm is not None:
            gradients, figures["gradient_norm"] = clipped(gradients, learner)
        return figures, gradients

    return replica_step


def apply(learner: Learner, gradients: Gradients) -> None:
    """Move the trainable variables along gradients that are complete."""
    variables = learner.model.trainable_variables
    pairs = [(_once(g), v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    learner.optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])


def _reduced(
    learner: Learner, share: tf.Tensor, loss: tf.Tensor, gradients: Gradients
) -> tuple[tf.Tensor, Gradients]:
    """Sum loss and gradients over the replicas, and average the moving statistics.

    Statistics count by a replica's share of the batch: of means this gives the mean of the whole.
    Variables that the loss does not touch stay None.
    """
    touched = [gradient for gradient in gradients if gradient is not None]
    if not touched:
        raise UserCodeError(
            f"{MODEL_FILE}: the loss depends on none of the {len(gradients)} trainable variables"
        )
    _warn_of_idle(learner, gradients)
    if learner.strategy.num_replicas_in_sync == 1:
        return loss, gradients
    replicas = tf.distribute.get_replica_context()
    statistics = learner.statistics
    parts = [tf.convert_to_tensor(v) * tf.cast(share, v.dtype) for v in statistics]
    # two calls: embeddings' gradients stay sparse where a strategy can sum them so
    touched = replicas.all_reduce(_SUM, touched)
    loss, *means = replicas.all_reduce(_SUM, [loss, *parts])
    for variable, mean in zip(statistics, means, strict=True):
        variable.assign(mean)
    summed = iter(touched)
    return loss, [None if gradient is None else next(summed) for gradient in gradients]


def _warn_of_idle(learner: Learner, gradients: Gradients) -> None:
    pairs = zip(learner.model.trainable_variables, gradients, strict=True)
    if idle := [variable.path for variable, gradient in pairs if gradient is None]:
        log.warning(
            "train: the loss does not depend on %d of %d trainable variables, they do not learn: "
            "%s%s; look for a stop_gradient, or set trainable = False",
            *(len(idle), len(gradients), ", ".join(idle[:_SHOWN])),
            ", ..." if len(idle) > _SHOWN else "",
        )


def clipped(gradients: Gradients, learner: Learner) -> tuple[Gradients, tf.Tensor]:
    """Return gradients whose joint norm is at most `train.clip_norm`, and what it was."""
    dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    clipped, norm = tf.clip_by_global_norm(dense, learner.config.train.clip_norm)
    return clipped, norm


def _once(gradient: Any) -> Any:
    """Add up what an embedding's sparse gradient says of one row in several places.

    Keras 3.15 squares the places one by one, and not their sum: Adam's second moments of ids that
    come twice in a batch are too small then.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _are_finite(gradients: Gradients) -> tf.Tensor:
    found = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in found])


def _local(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """Return the first replica's copy of what all replicas agree on."""
    return strategy.experimental_local_results(value)[0]
