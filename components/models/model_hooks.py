"""What a user may write in `model.py`: one required function and five optional hooks.

build_model(features, hyperparameters) -> keras.Model
    `features`: one ready-made `keras.Input` per transformed feature, of the shape that
    `preprocessing_fn` gave it (a scalar is `[batch]`). Variable-length features are dense,
    `[batch, longest]`, padded with 0 or "" (so keep 0 free for padding and mask it, as with
    `Embedding(mask_zero=True)`). Return `keras.Model(inputs=features, outputs=...)`, outputs
    one tensor or `{head: tensor}`: logits `[batch, 1]` for a binary head, `[batch, classes]`
    for multiclass, the value `[batch, 1]` for regression.
loss(labels, outputs, weights) -> Tensor
    `labels` and `outputs` by head; `weights` float32 `[batch]`. Return the loss of each example,
    `[batch]`, weights already applied; the trainer divides its sum over all replicas by the sum
    of all weights. Replaces the heads' default losses, and with them `loss_weight` and
    `train.class_weights`, which are refused beside it.
metrics() -> {head: {name: function}}
    More figures for `evaluate` and `bless`: each `function(labels, scores, weights) -> float`
    takes NumPy arrays (`labels` `[examples]`; `scores` `[examples, classes]`, or `[examples]`
    for regression). Lower is better for names that end in `_loss` or `_error`.
optimizer(hyperparameters, steps) -> keras.optimizers.Optimizer
    `steps` is the length of the training, for schedules. The default is Adam(learning_rate).
train_step(model, features, labels, weights, compute_loss) -> (loss, gradients)
    One replica's share of a step, traced into a graph. `compute_loss(labels, outputs, weights)`
    gives this replica's share of the global loss; return it and the gradients in the order of
    `model.trainable_variables` (None where there is none). The trainer sums over replicas,
    clips and applies: do none of these here.
callbacks(hyperparameters, steps) -> list of keras.callbacks.Callback
    Called at `on_train_begin`, `on_train_batch_begin`, `on_train_batch_end` (with `loss`),
    `on_epoch_begin`, `on_epoch_end` (with the mean `loss`) and `on_train_end`;
    `self.model.stop_training = True` ends the training well. Batches are counted through all
    epochs; one that reaches into the next belongs to the epoch in which it begins. Keras's
    EarlyStopping, ModelCheckpoint and the like are refused: they would forget in a restart.
    Reading the loss each step costs time on an accelerator. They run in the chief alone; a
    learning rate they set (`self.model.optimizer.learning_rate`) is every process's. Under
    parameter servers the chief's weights are those of the last checkpoint.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from components.models.user_code import function_of, load_module, optional_function, user_code
from contract.errors import UserCodeError, did_you_mean
from contract.schema.pipeline import PipelineConfig

MODEL_FILE = "model.py"

MetricFunction = Callable[[Any, Any, Any], float]
Hook = Callable[..., Any]

_HOOKS = {
    "loss": ("labels", "outputs", "weights"),
    "metrics": (),
    "optimizer": ("hyperparameters", "steps"),
    "train_step": ("model", "features", "labels", "weights", "compute_loss"),
    "callbacks": ("hyperparameters", "steps"),
}


@dataclass(frozen=True)
class ModelHooks:
    """The functions of one `model.py`; those that the user has not written are None."""

    build_model: Hook
    loss: Hook | None = None
    metrics: Hook | None = None
    optimizer: Hook | None = None
    train_step: Hook | None = None
    callbacks: Hook | None = None


def load_hooks(frozen_folder: Path) -> ModelHooks:
    """Import the frozen `model.py` and return its functions.

    Raises:
        UserCodeError: If the file or `build_model` is missing, the import raises, or a function
            takes other parameters than the module's first lines say.
    """
    return hooks_of(load_module(frozen_folder, MODEL_FILE))


def hooks_of(module: ModuleType) -> ModelHooks:
    """Return the functions of an imported `model.py`.

    Raises:
        UserCodeError: As `load_hooks`, but for the import.
    """
    build = function_of(module, "build_model", ("features", "hyperparameters"))
    optional = {
        name: optional_function(module, name, parameters) for name, parameters in _HOOKS.items()
    }
    return ModelHooks(build_model=build, **optional)


def custom_metrics(
    frozen_folder: Path, config: PipelineConfig
) -> Mapping[str, Mapping[str, MetricFunction]]:
    """Return the user's own metrics by head and name; empty where `model.py` has none.

    Raises:
        UserCodeError: If `metrics()` raises or returns something else.
    """
    hook = load_hooks(frozen_folder).metrics
    if hook is None:
        return {}
    where = f"{MODEL_FILE}: metrics()"
    with user_code(where):
        found = hook()
    expected = "expected {head: {name: function(labels, scores, weights)}}"
    if not isinstance(found, Mapping):
        raise UserCodeError(f"{where}: returned {type(found).__name__}; {expected}")
    for head, functions in found.items():
        if head not in config.heads:
            raise UserCodeError(
                f"{where}: '{head}' is not a head of this pipeline (heads: "
                f"{', '.join(config.heads)}){did_you_mean(str(head), config.heads)}"
            )
        if not isinstance(functions, Mapping) or not all(map(callable, functions.values())):
            raise UserCodeError(f"{where}: head '{head}' holds {functions!r}; {expected}")
    return found
