"""Checkpoints on storage: published by a manifest that is written last, verified by digest.

checkpoints/<step>/weights.npz      the model's variables, in Keras's order, by number and path
checkpoints/<step>/training.npz     what only training needs: optimizer, random states, position
checkpoints/<step>/manifest.json    digests of both; without it there is no checkpoint
"""

import functools
import logging
import re
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.errors import DataError, NotFoundError, SlipwayError
from contract.layout import CHECKPOINT_MANIFEST, RunLayout
from contract.records.training import CheckpointManifest
from contract.storage import Attempt, digest_file, publish_directory

if TYPE_CHECKING:
    import keras

WEIGHTS_FILE = "weights.npz"
TRAINING_FILE = "training.npz"

Arrays = dict[str, npt.NDArray[Any]]

_FOLDER = re.compile(r"\.?(\d+)(\.tmp-.+)?")  # by its step; hidden while it is written
_AUTOMATIC_NUMBER = re.compile(r"_\d+(?=/|$)")  # Keras counts layers of one kind in a process

log = logging.getLogger("slipway")


class Snapshot(NamedTuple):
    """What a checkpoint holds, copied from the device: training may continue meanwhile."""

    weights: Arrays
    training: Arrays


def weights_of(model: "keras.Model") -> Arrays:
    """Copy a model's weights, by number and path."""
    return {
        f"{number:05d}:{variable.path}": _stored(variable)
        for number, variable in enumerate(model.weights)
    }


def publish(run: RunLayout, attempt: Attempt, step: int, snapshot: Snapshot) -> CheckpointManifest:
    """Write a snapshot as the checkpoint of `step`; the manifest comes last.

    Raises:
        ConflictError: If a later attempt trains this run now; nothing was published.
        StorageError: If the disk is full; nothing was published.
    """
    attempt.check()
    folder = run.checkpoint(step)
    with publish_directory(folder) as temporary:
        np.savez(temporary / WEIGHTS_FILE, allow_pickle=False, **snapshot.weights)
        np.savez(temporary / TRAINING_FILE, allow_pickle=False, **snapshot.training)
        files = {p.name: digest_file(p) for p in sorted(temporary.iterdir())}
        attempt.check()
    manifest = CheckpointManifest(step=step, files=files, written_at=datetime.now(UTC))
    manifest.write(run.checkpoint_manifest(step))
    return manifest


class Writer:
    """Publishes snapshots from a separate thread, one after the other."""

    def __init__(self, write: Callable[[int, Snapshot], None]) -> None:
        self._write = write
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def submit(self, step: int, snapshot: Snapshot) -> None:
        """Begin to write; wait first for the last one, if it is still being written.

        Raises:
            SlipwayError: What the last one failed with.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(step, snapshot), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written; raise what the writing failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what the writing failed with, without waiting for one in progress."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self, step: int, snapshot: Snapshot) -> None:
        try:
            self._write(step, snapshot)
        except (SlipwayError, OSError, ValueError, MemoryError) as error:
            self._failure = error


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
    found = _stored_weights(run, step)
    if difference := _difference(found, model):
        path = run.checkpoint(step) / WEIGHTS_FILE
        raise DataError(f"{path}: does not fit the model: {difference}; start a new run")
    for variable, name in zip(model.weights, sorted(found), strict=True):
        variable.assign(found[name])


def misfit(model: "keras.Model", run: RunLayout, step: int) -> str:
    """Return where a checkpoint's weights differ in name or shape from a model's, or `""`.

    Raises:
        NotFoundError: If no checkpoint of this step was published.
        DataError: If its files are corrupt.
    """
    return _difference(_stored_weights(run, step), model)


def load_training(run: RunLayout, step: int) -> Arrays:
    """Return what `load_weights` leaves out, by name.

    Raises:
        DataError: If the file is not what `publish` writes.
    """
    path = run.checkpoint(step) / TRAINING_FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable: {error}; start a new run") from error


def remove_old(run: RunLayout, keep: int, best_step: int | None) -> list[int]:
    """Remove judged checkpoints beyond the newest `keep`; return the steps removed.

    One without a verdict is never removed, nor is `best_step`: a later step may still choose it.
    What kills have left of earlier ones, half written or half removed, goes too.
    """
    removed = []
    published = list_published(run)
    for manifest in published[:-keep]:
        if manifest.step == best_step or not run.verdict(manifest.step).exists():
            continue
        run.checkpoint_manifest(manifest.step).unlink(missing_ok=True)
        removed.append(manifest.step)
    newest = max((manifest.step for manifest in published), default=0)
    for folder in run.checkpoints.glob("*"):
        found = _FOLDER.fullmatch(folder.name)
        if found and int(found[1]) <= newest and _has_no_manifest(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def _has_no_manifest(folder: Path) -> bool:
    return folder.name.startswith(".") or not (folder / CHECKPOINT_MANIFEST).exists()


def _stored_weights(run: RunLayout, step: int) -> Arrays:
    manifest = CheckpointManifest.read(run.checkpoint_manifest(step))
    if problem := problem_of(run, manifest):
        raise DataError(f"{problem}; choose another checkpoint or train again")
    with np.load(run.checkpoint(step) / WEIGHTS_FILE, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _difference(stored: Arrays, model: "keras.Model") -> str:
    """Say in words where two models differ, or `""`; automatic numbers in names do not count."""
    found = {name: value.shape for name, value in stored.items()}
    expected = {f"{n:05d}:{v.path}": tuple(v.shape) for n, v in enumerate(model.weights)}
    if len(found) != len(expected):
        return f"it has {len(found)} variables, the model has {len(expected)}"
    for theirs, ours in zip(sorted(found), sorted(expected), strict=True):
        if _general(theirs) != _general(ours) or found[theirs] != expected[ours]:
            return f"found {theirs} {list(found[theirs])}, expected {ours} {list(expected[ours])}"
    return ""


def _general(name: str) -> str:
    return _AUTOMATIC_NUMBER.sub("", name)


def _stored(variable: Any) -> npt.NDArray[Any]:
    """Copy a variable to the host, as a type that every NumPy can read."""
    array = np.array(variable)
    return array if array.dtype.kind in "biuf" else array.astype(np.float32)


@functools.cache
def _warn_once(message: str) -> None:
    """Warn of what the evaluator would otherwise say again every second."""
    log.warning("%s", message)
