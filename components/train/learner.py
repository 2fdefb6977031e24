"""The model with its optimizer, and one step of learning on all replicas.

What must be done once is done once (each of these is silently wrong otherwise): the loss is divided
by the weight of the *whole* batch, gradients are summed over the replicas once, clipped after that,
and moving statistics are averaged, so that replicas do not drift apart.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from components.examples import Batch
from components.model_hooks import MODEL_FILE, ModelHooks, load_hooks
from components.models import build_model, head_outputs
from components.train.losses import ExampleLosses, Tensors, example_losses
from components.user_code import user_code
from contract.errors import UserCodeError
from contract.schema import PipelineConfig

Gradients = list[Any]  # dense tensors, or IndexedSlices of embeddings
StepFunction = Callable[[Iterator[Any]], tf.Tensor]


@dataclass(frozen=True)
class Learner:
    """Everything that learns, made in the strategy's scope."""

    config: PipelineConfig
    hooks: ModelHooks
    strategy: tf.distribute.Strategy
    model: keras.Model
    optimizer: keras.optimizers.Optimizer


def make_learner(
    config: PipelineConfig,
    frozen_folder: Path,
    transform_graph: Path,
    strategy: tf.distribute.Strategy,
) -> Learner:
    """Build model and optimizer with fresh weights, the same ones for the same seed.

    Raises:
        UserCodeError: If `build_model` or a hook raises or returns the wrong thing.
    """
    keras.utils.set_random_seed(config.train.seed)
    hooks = load_hooks(frozen_folder)
    with strategy.scope():
        model = build_model(config, frozen_folder, transform_graph)
        if not model.trainable_variables:
            raise UserCodeError(f"{MODEL_FILE}: build_model: the model has nothing to train")
        optimizer = _optimizer(config, hooks, strategy)
        optimizer.build(model.trainable_variables)
    return Learner(config, hooks, strategy, model, optimizer)


def step_function(learner: Learner) -> StepFunction:
    """Return the traced step: takes the next batch from an iterator, learns, returns the loss.

    The loss is the weighted mean over the batch of all replicas, plus the model's own penalties.
    """
    strategy = learner.strategy
    compute = _gradient_function(learner)

    def replica_step(batch: Batch) -> tf.Tensor:
        replicas = tf.distribute.get_replica_context()
        weight = replicas.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(batch.weights))
        loss, gradients = compute(batch, weight)
        _apply(learner, _reduced(gradients, learner.model, replicas))
        if strategy.num_replicas_in_sync > 1:
            _average_statistics(learner.model, replicas)
        return loss

    # autograph would rewrap the errors of user code, and needs nothing here
    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def step(batches: Iterator[Any]) -> tf.Tensor:
        losses = strategy.run(replica_step, args=(next(batches),))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    return step  # type: ignore[no-any-return]


def _optimizer(
    config: PipelineConfig, hooks: ModelHooks, strategy: tf.distribute.Strategy
) -> keras.optimizers.Optimizer:
    if hooks.optimizer is None:
        optimizer = keras.optimizers.Adam(config.train.learning_rate)
    else:
        optimizer = _users_optimizer(hooks.optimizer, config)
    if strategy.num_replicas_in_sync > 1:
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


def _gradient_function(
    learner: Learner,
) -> Callable[[Batch, tf.Tensor], tuple[tf.Tensor, Gradients]]:
    """Return what computes this replica's share of loss and gradients; XLA compiles it if asked."""
    losses = example_losses(learner.config.heads, learner.hooks)
    own_step = learner.hooks.train_step
    replicas = learner.strategy.num_replicas_in_sync
    model = learner.model

    def compute(batch: Batch, weight: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        def share(labels: Tensors, outputs: Tensors, weights: tf.Tensor) -> tf.Tensor:
            total = tf.reduce_sum(losses(labels, outputs, weights))
            penalties = [tf.cast(loss, tf.float32) for loss in model.losses]
            return tf.math.divide_no_nan(total, weight) + sum(penalties, 0.0) / replicas

        if own_step is not None:
            return _users_step(own_step, learner.model, batch, share)
        with tf.GradientTape() as tape:
            outputs = head_outputs(model, learner.config, batch.features, training=True)
            loss = share(batch.labels, outputs, batch.weights)
        return loss, tape.gradient(loss, _values(model.trainable_variables))

    if learner.config.train.jit_compile:
        return tf.function(compute, autograph=False, jit_compile=True)  # type: ignore[no-any-return]
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
    return loss, list(found[1])


def _reduced(gradients: Gradients, model: keras.Model, replicas: Any) -> Gradients:
    """Sum each gradient over the replicas; variables that the loss does not touch stay None."""
    touched = [gradient for gradient in gradients if gradient is not None]
    if not touched:
        raise UserCodeError(
            f"{MODEL_FILE}: the loss depends on none of the {len(model.trainable_variables)} "
            "trainable variables"
        )
    summed = iter(replicas.all_reduce(tf.distribute.ReduceOp.SUM, touched))
    return [None if gradient is None else next(summed) for gradient in gradients]


def _apply(learner: Learner, gradients: Gradients) -> None:
    limit = learner.config.train.clip_norm
    variables = learner.model.trainable_variables
    if limit is not None:
        dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
        gradients, _ = tf.clip_by_global_norm(dense, limit)
    pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    learner.optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])


def _average_statistics(model: keras.Model, replicas: Any) -> None:
    """Give all replicas the mean of their moving statistics (BatchNormalization's, for one).

    Integer state, such as a random generator's, is each replica's own.
    """
    for variable in model.non_trainable_variables:
        if tf.as_dtype(variable.dtype).is_floating:
            mean = replicas.all_reduce(tf.distribute.ReduceOp.MEAN, tf.convert_to_tensor(variable))
            variable.assign(mean)


def _values(variables: Sequence[Any]) -> list[tf.Variable]:
    return [variable.value for variable in variables]


def _in_words(found: object) -> str:
    if isinstance(found, Sequence):
        return f"{type(found).__name__} of {len(found)}"
    return type(found).__name__
