"""The model with its optimizer, and one step of learning on all replicas.

What must be done once is done once (each of these is silently wrong otherwise): the loss is divided
by the weight of the *whole* batch, gradients are summed over the replicas once, clipped after that,
steps are counted here, and moving statistics are averaged, so that replicas do not drift apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from components.examples import Batch
from components.model_hooks import MODEL_FILE, ModelHooks, load_hooks
from components.models import build_model
from components.train.gradients import Gradients, gradient_function
from components.train.loss_scale import LossScale
from components.train.strategies import PeerStrategy
from components.user_code import user_code
from contract.errors import UserCodeError
from contract.schema.pipeline import PipelineConfig

Figures = dict[str, tf.Tensor]
StepFunction = Callable[[Iterator[Any]], Figures]

_SUM = tf.distribute.ReduceOp.SUM


@dataclass(frozen=True)
class Learner:
    """Everything that learns, made in the strategy's scope."""

    config: PipelineConfig
    hooks: ModelHooks
    strategy: tf.distribute.Strategy
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    loss_scale: LossScale | None = None
    peers: int = 1

    @property
    def shares(self) -> int:
        """Into how many shares each batch is divided, over all replicas of all processes."""
        return self.peers * int(self.strategy.num_replicas_in_sync)

    @property
    def statistics(self) -> list[Any]:
        """Moving statistics (BatchNormalization's, for one): what replicas must agree upon."""
        return [
            variable
            for variable in self.model.non_trainable_variables
            if tf.as_dtype(variable.dtype).is_floating
        ]

    @property
    def random_states(self) -> list[Any]:
        """States of random generators (Dropout's, for one): each process has its own."""
        saved = {id(variable) for variable in self.model.weights}
        return [v for v in self.model.variables if id(v) not in saved]


def make_learner(
    config: PipelineConfig,
    frozen_folder: Path,
    transform_graph: Path,
    strategy: tf.distribute.Strategy,
    peers: int = 1,
) -> Learner:
    """Build model and optimizer with fresh weights, the same ones for the same seed.

    `peers` is for a worker that shares each batch with others, whom its strategy does not know.

    Raises:
        UserCodeError: If `build_model` or a hook raises or returns the wrong thing.
    """
    keras.utils.set_random_seed(config.train.seed)
    hooks = load_hooks(frozen_folder)
    with strategy.scope():
        model = build_model(config, frozen_folder, transform_graph)
        if not model.trainable_variables:
            raise UserCodeError(f"{MODEL_FILE}: build_model: the model has nothing to train")
        is_alone = not config.train.is_distributed and strategy.num_replicas_in_sync == 1
        if config.train.jit_compile and isinstance(strategy, PeerStrategy):
            refuse_synchronized(
                model, "what XLA compiles cannot wait for others; set train.jit_compile: false"
            )
        optimizer = _optimizer(config, hooks, is_alone)
        optimizer.build(model.trainable_variables)
        is_scaled = config.train.precision == "mixed_float16"
        loss_scale = LossScale() if is_scaled else None
    return Learner(config, hooks, strategy, model, optimizer, loss_scale, peers)


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


def refuse_synchronized(model: keras.Model, reason: str) -> None:
    """Refuse layers that want all processes' examples, where they would not get them.

    Raises:
        UserCodeError: That names the layer, and says the reason and what to do instead.
    """
    for layer in model._flatten_layers():
        if getattr(layer, "synchronized", False):
            raise UserCodeError(
                f"{MODEL_FILE}: layer '{layer.name}' is synchronized, but {reason}, or "
                "synchronized=False"
            )


def make_optimizer(config: PipelineConfig, frozen_folder: Path) -> keras.optimizers.Optimizer:
    """Return the optimizer alone, for a parameter server."""
    return _optimizer(config, load_hooks(frozen_folder), is_alone=False)


def _optimizer(
    config: PipelineConfig, hooks: ModelHooks, is_alone: bool
) -> keras.optimizers.Optimizer:
    if hooks.optimizer is None:
        optimizer = keras.optimizers.Adam(config.train.learning_rate)
    else:
        optimizer = _users_optimizer(hooks.optimizer, config)
    if not is_alone:
        _refuse_early_clipping(optimizer)
        # Keras would sum the gradients over the replicas again, after we have clipped their sum
        optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: list(
            gradients_and_variables
        )
    return optimizer


def _users_optimizer(
    hook: Callable[..., Any], config: PipelineConfig
) -> keras.optimizers.Optimizer:
    where = f"{MODEL_FILE}: optimizer"
    with user_code(where):
        optimizer = hook(dict(config.train.hyperparameters), config.train.steps)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise UserCodeError(
            f"{where}: returned {type(optimizer).__name__}; expected a keras.optimizers.Optimizer"
        )
    return optimizer


def _refuse_early_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    for name in ("clipnorm", "global_clipnorm", "clipvalue"):
        if getattr(optimizer, name, None) is not None:
            raise UserCodeError(
                f"{MODEL_FILE}: optimizer: '{name}' clips each replica's gradients by themselves; "
                "set train.clip_norm instead, which clips their sum"
            )


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
    """Return the first replica's copy of what all replicas agree upon."""
    return strategy.experimental_local_results(value)[0]


def set_rate(learner: Learner) -> float | None:
    """Return the learning rate that a callback may set; None where a schedule gives it."""
    rate = learner.optimizer._learning_rate  # a variable, or a schedule
    return None if callable(rate) else float(keras.ops.convert_to_numpy(rate))
