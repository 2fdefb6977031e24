"""The loop: steps, callbacks, checkpoints, and the ways in which it ends."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components import checkpoints
from components.examples import ExampleSource, Order, training_batches
from components.shards import broken_shard
from components.train.callbacks import Callbacks
from components.train.learner import Learner, step_function
from components.train.progress import Progress
from components.verdicts import best_step, read_verdicts
from contract.errors import DataError, SlipwayError, UserCodeError, UserError
from contract.layout import RunLayout
from contract.storage import Attempt

log = logging.getLogger("slipway")


@dataclass
class Stop:
    """Raised by a signal handler, read by the loop; `signal` is the signal's name."""

    signal: str = ""


class Loop:
    """One attempt at a run's training; `step` is how many steps are done, over all attempts."""

    def __init__(
        self, learner: Learner, run: RunLayout, attempt: Attempt, progress: Progress
    ) -> None:
        self.step = 0
        self._learner = learner
        self._run = run
        self._attempt = attempt
        self._progress = progress
        self._config = learner.config.train
        self._state = checkpoints.TrainingState(learner.model, learner.optimizer)
        self._callbacks = Callbacks(learner)
        self._published_step = 0
        self._unread: list[tf.Tensor] = []  # losses still on the device, in order of their steps
        self._interval: list[float] = []  # losses since the last report

    def resume(self) -> int:
        """Load the newest whole checkpoint, if there is one, and return its step."""
        manifest = checkpoints.newest_whole(self._run)
        if manifest is not None:
            self.step = self._published_step = manifest.step
            checkpoints.load_weights(self._learner.model, self._run, self.step)
            checkpoints.load_training_state(self._state, self._run, self.step)
            log.info("train: resumed from checkpoint %d", self.step)
        return self.step

    def run(self, source: ExampleSource, stop: Stop, clock: Callable[[], float]) -> str:
        """Train to the last step, or until a callback stops it; return why it ended.

        Raises:
            DataError: If a shard breaks or the loss is not finite.
            UserCodeError: If the model or a hook raises.
            UserError: If `timeout_seconds` are over.
            SlipwayError: After a signal; a retry resumes.
        """
        deadline = clock() + self._config.timeout_seconds
        try:
            learn, batches = step_function(self._learner), self._batches(source)
            self._progress.start(self.step)
            self._callbacks.begin()
            while self.step < self._config.steps and not self._callbacks.have_stopped:
                self._one_step(lambda: learn(batches))
                if stop.signal or clock() > deadline:
                    self._publish()
                    raise self._interrupted(stop)
            self._publish()
            self._callbacks.end()
        except tf.errors.OpError as error:
            raise self._explain(error, source) from error
        has_stopped = self.step < self._config.steps
        return f"a callback stopped it at step {self.step}" if has_stopped else "all steps done"

    def _one_step(self, learn: Callable[[], tf.Tensor]) -> None:
        self._callbacks.before(self.step)
        loss = learn()
        self._callbacks.after(self.step, loss)
        self.step += 1
        self._unread.append(loss)
        if self.step % self._config.log_every_steps == 0 or self.step == self._config.steps:
            self._read_losses()
            rate = float(keras.ops.convert_to_numpy(self._learner.optimizer.learning_rate))
            self._progress.report(self.step, float(np.mean(self._interval)), rate)
            self._interval.clear()
        if self.step % self._config.checkpoint_every_steps == 0:
            self._publish()

    def _read_losses(self) -> None:
        """Fetch the losses of the last steps; done rarely, because it waits for the device."""
        first = self.step - len(self._unread) + 1
        losses = [float(loss) for loss in self._unread]
        self._unread.clear()
        for step, loss in enumerate(losses, start=first):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss} at step {step}")
        self._interval += losses

    def _publish(self) -> None:
        """Publish the current step's checkpoint, if it is not yet, and remove what is too old."""
        if self.step == self._published_step:
            return
        self._read_losses()
        for variable in self._learner.model.trainable_variables:
            if not np.all(np.isfinite(keras.ops.convert_to_numpy(variable))):
                raise self._diverged(f"'{variable.path}' is not finite after step {self.step}")
        started = time.monotonic()
        checkpoints.publish(self._run, self._attempt, self.step, self._state)
        self._published_step = self.step
        best = best_step(self._learner.config, read_verdicts(self._run))
        checkpoints.remove_old(self._run, self._config.keep_checkpoints, best)
        log.info("train: checkpoint %d in %.2f s", self.step, time.monotonic() - started)

    def _batches(self, source: ExampleSource) -> Iterator[Any]:
        order = Order(
            batch_size=self._config.batch_size,
            seed=self._config.seed,
            first_step=self.step,
            shuffle_examples=self._config.shuffle_examples,
        )
        batches = training_batches(source, order)
        return iter(self._learner.strategy.experimental_distribute_dataset(batches))

    def _diverged(self, what: str) -> DataError:
        clip = self._config.clip_norm
        return DataError(
            f"train: {what}; the last good checkpoint is step {self._published_step}. Lower "
            f"train.learning_rate (now {self._config.learning_rate:g}), set train.clip_norm (now "
            f"{clip}), or look for missing or huge values in the transformed features"
        )

    def _interrupted(self, stop: Stop) -> SlipwayError:
        if stop.signal:
            return SlipwayError(
                f"train: {stop.signal} after step {self.step}; its checkpoint is published and a "
                "retry goes on from there"
            )
        return UserError(
            f"train: only {self.step} of {self._config.steps} steps when train.timeout_seconds "
            f"({self._config.timeout_seconds:g}) were over; raise it, or lower train.steps"
        )

    def _explain(self, error: tf.errors.OpError, source: ExampleSource) -> UserError:
        """Tell broken data from a broken model: TensorFlow raises the same classes for both."""
        if problem := broken_shard(source.shards):
            return DataError(problem)
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return UserError(
                f"train: out of memory after step {self.step}; lower train.batch_size "
                f"(now {self._config.batch_size}) or the model's size"
            )
        return UserCodeError(f"train: the model failed after step {self.step}: {_cause(error)}")


def _cause(error: tf.errors.OpError) -> str:
    """Return the line that says what happened; TensorFlow puts the graph's history around it."""
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    return next((line for line in lines if "[[{{" not in line and " = " in line), lines[0])[:500]
