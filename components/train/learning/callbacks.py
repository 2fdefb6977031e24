"""The user's `keras.callbacks.Callback`s, called by our loop; errors in them are the user's."""

import keras
import numpy as np
import tensorflow as tf

from components.models.model_hooks import MODEL_FILE
from components.models.user_code import user_code
from components.train.learning.learner import Learner
from contract.errors import UserCodeError

_WHERE = f"{MODEL_FILE}: callbacks"

# They count, keep or load what no checkpoint holds: a training that resumes would forget it.
_INSTEAD: dict[type[keras.callbacks.Callback], str] = {
    keras.callbacks.EarlyStopping: "evaluate.early_stop, which uses the verdicts",
    keras.callbacks.ReduceLROnPlateau: "a schedule in optimizer()",
    keras.callbacks.ModelCheckpoint: "train.checkpoint_every_steps; the best one is always kept",
    keras.callbacks.BackupAndRestore: "nothing: a restarted training continues by itself",
    keras.callbacks.SwapEMAWeights: "ema_overwrite_frequency of the optimizer",
}


class Callbacks:
    """Calls the hooks that `components/models/model_hooks.py` promises; without any, nothing."""

    def __init__(self, learner: Learner) -> None:
        self._model = learner.model
        # Keras makes these attributes in `compile` and `fit` only
        self._model.optimizer = learner.optimizer
        self._model.stop_training = False
        self._list = _made_by(learner)
        self._epoch = -1
        self._losses: list[float] = []  # of the epoch's batches

    @property
    def have_stopped(self) -> bool:
        """Whether one of them has set `model.stop_training`."""
        return bool(self._model.stop_training)

    def begin(self) -> None:
        """Call `on_train_begin`."""
        with user_code(_WHERE):
            for callback in self._list:
                callback.on_train_begin()

    def before(self, step: int, epoch: int) -> None:
        """Call `on_train_batch_begin` of the step with this number, from 0; before it
        `on_epoch_begin`, if its batch is the first that begins in this epoch.
        """
        if not self._list:
            return
        with user_code(_WHERE):
            if epoch != self._epoch:
                self._epoch, self._losses = epoch, []
                for callback in self._list:
                    callback.on_epoch_begin(epoch)
            for callback in self._list:
                callback.on_train_batch_begin(step)

    def after(self, step: int, loss: tf.Tensor, epoch: int) -> None:
        """Call `on_train_batch_end`; only then, for someone who looks, is the loss fetched.

        Then `on_epoch_end`, with the mean loss, if the next batch begins in another `epoch`.
        """
        if not self._list:
            return
        self._losses.append(float(loss))
        with user_code(_WHERE):
            for callback in self._list:
                callback.on_train_batch_end(step, {"loss": self._losses[-1]})
            if epoch != self._epoch:
                for callback in self._list:
                    callback.on_epoch_end(self._epoch, {"loss": float(np.mean(self._losses))})

    def end(self) -> None:
        """Call `on_train_end`."""
        with user_code(_WHERE):
            for callback in self._list:
                callback.on_train_end()


def _made_by(learner: Learner) -> list[keras.callbacks.Callback]:
    hook = learner.hooks.callbacks
    if hook is None:
        return []
    config = learner.config.train
    with user_code(_WHERE):
        found = hook(dict(config.hyperparameters), config.steps)
    if not isinstance(found, list | tuple) or not all(
        isinstance(callback, keras.callbacks.Callback) for callback in found
    ):
        raise UserCodeError(f"{_WHERE}: returned {found!r}; expected keras.callbacks.Callback's")
    for callback in found:
        _refuse(callback)
        callback.set_model(learner.model)
        callback.set_params({"steps": config.steps, "epochs": 1, "verbose": 0})
    return list(found)


def _refuse(callback: keras.callbacks.Callback) -> None:
    for kind, instead in _INSTEAD.items():
        if isinstance(callback, kind):
            raise UserCodeError(
                f"{_WHERE}: {kind.__name__} is written for model.fit, which trains and evaluates "
                f"in one process from the beginning to the end; use {instead}"
            )
