"""Checkpoints on storage: published by a manifest that is written last, verified by digest.

checkpoints/<step>/model.weights.h5    the model's variables, as Keras saves them
checkpoints/<step>/optimizer.npz       the optimizer's variables, slots and iterations
checkpoints/<step>/manifest.json       digests of both; without it there is no checkpoint
"""

import errno
import functools
import logging
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.errors import DataError, NotFoundError
from contract.layout import RunLayout
from contract.records import CheckpointManifest
from contract.storage import Attempt, digest_file, publish_directory

if TYPE_CHECKING:
    import keras

WEIGHTS_FILE = "model.weights.h5"
TRAINING_FILE = "training.npz"

_OPTIMIZER, _RANDOM = "optimizer:", "random:"  # prefixes in the training file

log = logging.getLogger("slipway")


class TrainingState(NamedTuple):
    """Everything that a checkpoint holds."""

    model: "keras.Model"
    optimizer: "keras.optimizers.Optimizer"


def publish(
    run: RunLayout,
    attempt: Attempt,
    step: int,
    state: "TrainingState",
) -> CheckpointManifest:
    """Save model and optimizer as the checkpoint of `step`; the manifest comes last.

    Raises:
        ConflictError: If a later attempt trains this run now; nothing was published.
        StorageError: If the disk is full; nothing was published.
    """
    attempt.check()
    folder = run.checkpoint(step)
    with publish_directory(folder) as temporary:
        _save_weights(state.model, temporary / WEIGHTS_FILE)
        np.savez(temporary / TRAINING_FILE, allow_pickle=False, **_training_state(state))
        files = {p.name: digest_file(p) for p in sorted(temporary.iterdir())}
        attempt.check()
    manifest = CheckpointManifest(step=step, files=files, written_at=datetime.now(UTC))
    manifest.write(run.checkpoint_manifest(step))
    return manifest


def list_published(run: RunLayout) -> list[CheckpointManifest]:
    """Return the manifests of all published checkpoints, steps rising.

    Half-written checkpoints have none and do not count; an unreadable manifest is skipped with a
    warning that names it. Contents are not verified here: see `problem_of`.
    """
    manifests = []
    for path in sorted(run.checkpoints.glob("[0-9]*/manifest.json")):
        try:
            manifests.append(CheckpointManifest.read(path))
        except NotFoundError:
            continue  # removed by the trainer's keep policy since the listing
        except DataError as error:
            _warn_once(f"checkpoint skipped: {error}")
    return manifests


def problem_of(run: RunLayout, manifest: CheckpointManifest) -> str:
    """Return which file is missing or has another digest than the manifest says, or `""`."""
    for name, digest in manifest.files.items():
        path = run.checkpoint(manifest.step) / name
        if not path.is_file():
            return f"{path}: missing"
        if digest_file(path) != digest:
            return f"{path}: corrupt, its digest is not the manifest's"
    return ""


def newest_whole(run: RunLayout) -> CheckpointManifest | None:
    """Return the newest checkpoint that is whole, or None; broken ones are warned of."""
    for manifest in reversed(list_published(run)):
        problem = problem_of(run, manifest)
        if not problem:
            return manifest
        log.warning("checkpoint %d skipped: %s", manifest.step, problem)
    return None


def load_weights(model: "keras.Model", run: RunLayout, step: int) -> None:
    """Load a published checkpoint's weights into a model made by `models.build_model`.

    Raises:
        NotFoundError: If no checkpoint of this step was published.
        DataError: If its files are corrupt or do not fit the model.
    """
    manifest = CheckpointManifest.read(run.checkpoint_manifest(step))
    path = run.checkpoint(step) / WEIGHTS_FILE
    if problem := problem_of(run, manifest):
        raise DataError(f"{problem}; choose another checkpoint or train again")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise DataError(f"{path}: does not fit the model: {error}") from error


def load_training_state(state: "TrainingState", run: RunLayout, step: int) -> None:
    """Load what `load_weights` leaves out: the optimizer's variables, random generators' states.

    Build the optimizer on the model's variables first.

    Raises:
        DataError: If another model or optimizer wrote the checkpoint.
    """
    path = run.checkpoint(step) / TRAINING_FILE
    with np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
    expected = {name: value.shape for name, value in _training_state(state).items()}
    if {name: value.shape for name, value in found.items()} != expected:
        raise DataError(f"{path}: another model or optimizer wrote it; start a new run")
    own = {n.removeprefix(_OPTIMIZER): v for n, v in found.items() if n.startswith(_OPTIMIZER)}
    state.optimizer.load_own_variables(own)
    for number, variable in enumerate(_random_states(state.model)):
        variable.assign(found[f"{_RANDOM}{number}"])


def remove_old(run: RunLayout, keep: int, best_step: int | None) -> list[int]:
    """Remove judged checkpoints beyond the newest `keep`; return the steps removed.

    One without a verdict is never removed, nor is `best_step`: a later step may still choose it.
    """
    removed = []
    for manifest in list_published(run)[:-keep]:
        if manifest.step == best_step or not run.verdict(manifest.step).exists():
            continue
        run.checkpoint_manifest(manifest.step).unlink(missing_ok=True)
        shutil.rmtree(run.checkpoint(manifest.step), ignore_errors=True)
        removed.append(manifest.step)
    return removed


def _save_weights(model: "keras.Model", path: Path) -> None:
    try:
        model.save_weights(path)
    except RuntimeError as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        # HDF5 notices a full disk when it closes the file, and says so in its own way
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@functools.cache
def _warn_once(message: str) -> None:
    """Warn of what the evaluator would otherwise say again every second."""
    log.warning("%s", message)


def _training_state(
    state: "TrainingState",
) -> dict[str, npt.NDArray[Any]]:
    own: dict[str, npt.NDArray[Any]] = {}
    state.optimizer.save_own_variables(own)
    found = {f"{_OPTIMIZER}{name}": np.asarray(value) for name, value in own.items()}
    for number, variable in enumerate(_random_states(state.model)):
        found[f"{_RANDOM}{number}"] = np.asarray(variable)
    return found


def _random_states(model: "keras.Model") -> "list[keras.Variable]":
    """Return the variables that Keras's weight file leaves out: random generators' states."""
    saved = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in saved]
