"""Everything that learns: the model with its optimizer, and how many share its batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from components.models.model_hooks import MODEL_FILE, ModelHooks, load_hooks
from components.models.user_code import user_code
from components.models.user_model import build_model
from components.train.learning.loss_scale import LossScale
from components.train.learning.strategies import PeerStrategy
from contract.errors import UserCodeError
from contract.schema.pipeline import PipelineConfig


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
        """Moving statistics (BatchNormalization's, for one): what replicas must agree on."""
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
        _refuse_infinite(model)
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


def _refuse_infinite(model: keras.Model) -> None:
    for variable in model.weights:
        value = variable.value
        if value.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(value))):
            raise UserCodeError(
                f"{MODEL_FILE}: build_model: the weight '{variable.path}' is not finite before the "
                "first step; look at its initializer, or at what the model sets it to"
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


def set_rate(learner: Learner) -> float | None:
    """Return the learning rate that a callback may set; None where a schedule gives it."""
    rate = learner.optimizer._learning_rate  # a variable, or a schedule
    return None if callable(rate) else float(keras.ops.convert_to_numpy(rate))
