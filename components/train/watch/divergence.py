"""A training whose loss or weights are finite no more: the step, the layer and the batch of it.

The loop reads its losses rarely, so that an accelerator need not wait; when it sees a NaN, the step
that made it is gone. The steps since the last good checkpoint are therefore made once more, in the
same order, with an eye on every one. The batch is kept with the weights that met it:

    python -m components.train.watch.divergence --pipeline NAME --run-id RUN --root ROOT

looks at it again, in eager mode, where a debugger can stop.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.data.examples import Batch, ExampleSource
from components.models import checkpoints
from components.train.input.feeding import (
    BEGINNING,
    continued_order,
    fits_memory,
    open_feed,
    plan_lanes,
)
from components.train.learning import learner_state as state
from components.train.learning.learner import Learner, make_learner
from components.train.learning.loss_scale import is_forgiven
from components.train.learning.steps import apply, replica_function
from components.train.learning.warm_start import load_start
from contract.command import StepCommand
from contract.errors import DataError, NotFoundError, SlipwayError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.data import TransformRecord
from contract.records.record import Result
from contract.records.training import Divergence
from contract.schema.pipeline import PipelineConfig
from contract.storage import local_path, publish_directory

BATCH_FILE, WEIGHTS_FILE, RECORD_FILE = "batch.npz", "weights.npz", "divergence.json"
_ROWS_SHOWN = 5

log = logging.getLogger("slipway")


class DivergedError(DataError):
    """The loss or the weights are not finite; it began after `good_step`."""

    def __init__(self, message: str, good_step: int, noticed_step: int) -> None:
        super().__init__(message)
        self.good_step = good_step
        self.noticed_step = noticed_step


@dataclass(frozen=True)
class Culprit:
    """What was not finite first; `rows` are those of the batch that show it, where rows do."""

    layer: str
    what: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Retraining:
    """Which steps to make again: those after `good_step`, up to `noticed_step`."""

    config: PipelineConfig
    run: RunLayout
    transform_graph: Path
    source: ExampleSource
    good_step: int
    noticed_step: int


def find_divergence(again: Retraining) -> Divergence | None:
    """Make the steps again in one process; keep the first batch that breaks something, and name it.

    Returns:
        What happened, or None if nothing did this time.
    """
    log.info("train: steps %d to %d again, to see", again.good_step + 1, again.noticed_step)
    learner = _fresh_learner(again.config, again.run, again.transform_graph)
    batch_size = min(again.config.train.batch_size, again.source.examples)
    compute = tf.function(replica_function(learner, batch_size), autograph=False)
    numbers = range(again.good_step + 1, again.noticed_step + 1)
    for step, batch in zip(numbers, _batches(again, learner), strict=False):
        before = [np.array(variable) for variable in learner.statistics]
        figures, gradients = compute(batch)
        loss = float(figures["loss"])
        if learner.loss_scale and is_forgiven(learner.loss_scale.update(figures["is_finite"])):
            continue
        if not np.isfinite(loss) or not all(map(_is_finite, gradients)):
            for variable, value in zip(learner.statistics, before, strict=True):
                variable.assign(value)
            weights = checkpoints.weights_of(learner.model)
            culprit = examine(learner.model, batch, loss, gradients)
        else:
            weights = checkpoints.weights_of(learner.model)
            apply(learner, gradients)
            culprit = _broken_by_update(learner)
        if culprit is not None:
            return _keep(again.run, step, culprit, (batch, weights))
    return None


def examine(
    model: keras.Model, batch: Batch, loss: float, gradients: Sequence[Any]
) -> Culprit | None:
    """Return what is not finite first: inputs, weights, layers in their order, loss, gradients.

    Of gradients, which flow backwards, the first is that of the variable nearest to the loss.
    """
    for name, value in batch.features.items():
        if rows := _bad_rows(value):
            return Culprit(name, "the input", rows)
    for variable in model.variables:
        if not _is_finite(variable.value):
            return Culprit(variable.path, "the weight, before the step,")
    for name, output in _outputs(model, batch.features):
        if rows := _bad_rows(output):
            return Culprit(name, "the output", rows)
    if not np.isfinite(loss):
        return Culprit("loss", f"the loss is {loss} of outputs that are finite; the value")
    pairs = list(zip(model.trainable_variables, gradients, strict=True))
    for variable, gradient in reversed(pairs):
        if gradient is not None and not _is_finite(gradient):
            return Culprit(variable.path, "the gradient")
    return None


def in_words(divergence: Divergence, run: RunLayout) -> str:
    """Say what happened and how to look at it again."""
    rows = ""
    if count := len(divergence.rows):
        shown = ", ".join(map(str, divergence.rows[:_ROWS_SHOWN]))
        rows = f" in {count} rows of the batch ({shown}{', ...' if count > _ROWS_SHOWN else ''})"
    return (
        f"it began in step {divergence.step}: {divergence.what} of '{divergence.layer}' is not "
        f"finite{rows}. The batch and the weights that met it are kept in "
        f"{run.divergence}; see them again by: python -m components.train.watch.divergence "
        f"--pipeline {run.pipeline} --run-id '{run.run_id}' --root {run.root}"
    )


# --- keeping and looking again ------------------------------------------------------------------


def load_batch(path: Path) -> Batch:
    """Read a batch that was kept.

    Raises:
        NotFoundError: If there is none.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no batch was kept; this run has not diverged")
    parts: dict[str, dict[str, tf.Tensor]] = {"features": {}, "labels": {}, "weights": {}}
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            kind, _, key = name.partition(":")
            parts[kind][key] = tf.constant(stored[name])
    return Batch(parts["features"], parts["labels"], parts["weights"][""])


def look_again(run: RunLayout) -> tuple[Divergence, Culprit | None]:
    """Let the kept batch meet the kept weights once more, in eager mode.

    Raises:
        NotFoundError: If nothing was kept.
    """
    batch = load_batch(run.divergence / BATCH_FILE)
    config = load_frozen(run)
    transformed = Result.read(run.result("transform")).detail_as(TransformRecord)
    graph = run.step("transform") / transformed.transform_graph
    learner = _fresh_learner(config, run, graph)
    with np.load(run.divergence / WEIGHTS_FILE, allow_pickle=False) as stored:
        for variable, name in zip(learner.model.weights, sorted(stored.files), strict=True):
            variable.assign(stored[name])
    figures, gradients = replica_function(learner, int(batch.weights.shape[0]))(batch)
    culprit = examine(learner.model, batch, float(figures["loss"]), gradients)
    return Divergence.read(run.divergence / RECORD_FILE), culprit


def _keep(
    run: RunLayout, step: int, culprit: Culprit, kept: tuple[Batch, checkpoints.Arrays]
) -> Divergence:
    batch, weights = kept
    arrays = {"weights:": batch.weights.numpy()}
    for kind, tensors in (("features", batch.features), ("labels", batch.labels)):
        arrays |= {f"{kind}:{name}": _storable(tensor) for name, tensor in tensors.items()}
    divergence = Divergence(step=step, layer=culprit.layer, what=culprit.what, rows=culprit.rows)
    with publish_directory(run.divergence) as folder:
        np.savez(folder / BATCH_FILE, allow_pickle=False, **arrays)
        np.savez(folder / WEIGHTS_FILE, allow_pickle=False, **weights)
        divergence.write(folder / RECORD_FILE)
    return divergence


def _storable(tensor: tf.Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array.astype("S") if array.dtype == object else array  # text: no pickles


# --- inside -------------------------------------------------------------------------------------


def _fresh_learner(config: PipelineConfig, run: RunLayout, graph: Path) -> Learner:
    """Build the model once more; its layers have the names that they had the first time."""
    keras.utils.clear_session(free_memory=False)
    return make_learner(config, run.frozen_pipeline, graph, tf.distribute.get_strategy())


def _batches(again: Retraining, learner: Learner) -> Iterator[Batch]:
    config, source = again.config.train, again.source
    position, lanes = BEGINNING, 0
    if again.good_step:
        position, lanes = state.restore(learner, again.run, again.good_step)
    else:
        load_start(learner, again.run)
        if not fits_memory(source, config.memory_ratio):
            size = min(config.batch_size, source.examples)
            lanes = plan_lanes(size, len(source.shards), config.sharers)
    state.part_random_states(learner.random_states, 0)
    return iter(open_feed(source, continued_order(config, source, position, lanes)).batches())


def _broken_by_update(learner: Learner) -> Culprit | None:
    rate = float(keras.ops.convert_to_numpy(learner.optimizer.learning_rate))
    for variable in learner.model.trainable_variables:
        if not _is_finite(variable.value):
            return Culprit(variable.path, f"after the update (learning rate {rate:g}) the weight")
    return None


def _outputs(
    model: keras.Model, features: Mapping[str, tf.Tensor]
) -> Iterator[tuple[str, tf.Tensor]]:
    """Yield each layer's output by name, in the order in which the model computes them."""
    names, tensors = [], []
    for depth in sorted(model._nodes_by_depth, reverse=True):  # Keras's own walk in `call`
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                names += [node.operation.name] * len(node.outputs)
                tensors += node.outputs
    numbered = {str(number): tensor for number, tensor in enumerate(tensors)}
    outputs = keras.Model(model.input, numbered)(dict(features), training=True)
    yield from ((name, outputs[str(number)]) for number, name in enumerate(names))


def _is_finite(value: Any) -> bool:
    if value is None:
        return True
    value = tf.convert_to_tensor(value)
    return not value.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(value)))


def _bad_rows(value: tf.Tensor) -> tuple[int, ...]:
    if not value.dtype.is_floating:
        return ()
    is_fine = tf.math.is_finite(tf.reshape(value, [tf.shape(value)[0], -1]))
    rows = tf.where(~tf.reduce_all(is_fine, axis=1))
    return tuple(int(row) for row in rows.numpy().ravel())


def main() -> None:
    """Look again at what a run has kept."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    command = StepCommand.parse("train", sys.argv[1:])
    run = RunLayout(local_path(command.root), command.pipeline, command.run_id)
    try:
        divergence, culprit = look_again(run)
    except SlipwayError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)
    log.info("step %d: %s of '%s'", divergence.step, divergence.what, divergence.layer)
    if culprit is None:
        log.info("seen again: all is finite up to the gradients, so the update did it")
        return
    rows = f", rows {', '.join(map(str, culprit.rows))}" if culprit.rows else ""
    log.info("seen again: %s of '%s'%s", culprit.what, culprit.layer, rows)


if __name__ == "__main__":
    main()
