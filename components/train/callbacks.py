"""The user's `keras.callbacks.Callback`s, called by our loop; errors in them are the user's."""

import keras
import tensorflow as tf

from components.model_hooks import MODEL_FILE
from components.train.learner import Learner
from components.user_code import user_code
from contract.errors import UserCodeError

_WHERE = f"{MODEL_FILE}: callbacks"


class Callbacks:
    """Calls the hooks that `components/model_hooks.py` promises; does nothing without any."""

    def __init__(self, learner: Learner) -> None:
        self._model = learner.model
        # Keras makes these attributes in `compile` and `fit` only
        self._model.optimizer = learner.optimizer
        self._model.stop_training = False
        self._list = _made_by(learner)

    @property
    def have_stopped(self) -> bool:
        """Whether one of them has set `model.stop_training`."""
        return bool(self._model.stop_training)

    def begin(self) -> None:
        """Call `on_train_begin`."""
        with user_code(_WHERE):
            for callback in self._list:
                callback.on_train_begin()

    def before(self, step: int) -> None:
        """Call `on_train_batch_begin` of the step with this number, from 0."""
        if self._list:
            with user_code(_WHERE):
                for callback in self._list:
                    callback.on_train_batch_begin(step)

    def after(self, step: int, loss: tf.Tensor) -> None:
        """Call `on_train_batch_end`; only then, for someone who looks, is the loss fetched."""
        if self._list:
            logs = {"loss": float(loss)}
            with user_code(_WHERE):
                for callback in self._list:
                    callback.on_train_batch_end(step, logs)

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
        callback.set_model(learner.model)
        callback.set_params({"steps": config.steps, "epochs": 1, "verbose": 0})
    return list(found)
