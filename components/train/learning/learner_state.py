"""Between what learns and what a checkpoint holds, in both directions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.models import checkpoints
from components.models.checkpoints import Arrays, Snapshot
from components.train.input.feeding import Position
from components.train.learning.learner import Learner
from contract.errors import DataError
from contract.layout import RunLayout

_OPTIMIZER, _RANDOM = "optimizer:", "random:"
_LOSS_SCALE, _POSITION = "loss_scale", "position"


def snapshot(learner: Learner, position: Position, lanes: int) -> Snapshot:
    """Copy everything that training continues from."""
    training = {_POSITION: np.array([*position, lanes]), **_own_state(learner)}
    return Snapshot(checkpoints.weights_of(learner.model), training)


def restore(learner: Learner, run: RunLayout, step: int) -> tuple[Position, int]:
    """Load a checkpoint; return the position in the examples and the lanes they are read in.

    Raises:
        DataError: If it is corrupt, or another model or optimizer wrote it.
    """
    checkpoints.load_weights(learner.model, run, step)
    found = checkpoints.load_training(run, step)
    position = found.pop(_POSITION, None)
    expected = {name: value.shape for name, value in _own_state(learner).items()}
    if position is None or {name: value.shape for name, value in found.items()} != expected:
        raise DataError(
            f"{run.checkpoint(step) / checkpoints.TRAINING_FILE}: another model or optimizer wrote "
            "it; start a new run"
        )
    restore_optimizer(learner, optimizer_arrays(found))
    for number, variable in enumerate(learner.random_states):
        variable.assign(found[f"{_RANDOM}{number}"])
    if learner.loss_scale is not None:
        learner.loss_scale.restore(found[_LOSS_SCALE].tolist())
    epoch, examples, lanes = (int(n) for n in position)
    return Position(epoch, examples), lanes


def part_random_states(states: Sequence[Any], rank: int) -> None:
    """Give each process its own random numbers; rank 0's are those of `single`.

    The seed is the first number of a generator's state, how often it was asked the second; so
    what rank 0 saves is enough for all to continue.
    """
    for variable in states:
        state = np.array(variable)
        if state.ndim == 1 and state.size == 2:
            state[0] += np.asarray(rank, state.dtype)
            variable.assign(state)


def optimizer_arrays(training: Arrays) -> Arrays:
    """Return the optimizer's part of a checkpoint, by Keras's names."""
    return {n.removeprefix(_OPTIMIZER): v for n, v in training.items() if n.startswith(_OPTIMIZER)}


def restore_optimizer(learner: Learner, arrays: Arrays) -> None:
    """Load the optimizer's variables."""
    learner.optimizer.load_own_variables(arrays)


def _own_state(learner: Learner) -> Arrays:
    own: dict[str, Any] = {}
    learner.optimizer.save_own_variables(own)
    found = {f"{_OPTIMIZER}{name}": np.array(value) for name, value in own.items()}
    for number, variable in enumerate(learner.random_states):
        found[f"{_RANDOM}{number}"] = np.array(variable)
    if learner.loss_scale is not None:
        found[_LOSS_SCALE] = np.array(learner.loss_scale.state())
    return found
