"""A timeline of chosen steps, made by TensorFlow's profiler."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from components.runs.tracking import Tracker

log = logging.getLogger("slipway")


class Timeline:
    """Records those of the steps `[first, last]` that this attempt makes; none if `steps` is empty.

    It goes to the folder of the summaries, and to MLflow as an artifact.
    """

    def __init__(self, steps: Sequence[int], folder: Path, tracker: Tracker) -> None:
        self._steps = steps
        self._folder = folder
        self._tracker = tracker
        self._is_recording = False

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Record what is done within, if it is one of the chosen steps."""
        if not self._steps or not self._steps[0] <= step <= self._steps[1]:
            self.close()  # parameter servers may have finished the last one while settling
            yield
            return
        if not self._is_recording:
            tf.profiler.experimental.start(str(self._folder))
            self._is_recording = True
        with tf.profiler.experimental.Trace("train", step_num=step, _r=1):
            yield
        if step == self._steps[1]:
            self.close()

    def close(self) -> None:
        """Write what was recorded, if there is any: the training may end before the last step."""
        if not self._is_recording:
            return
        self._is_recording = False
        tf.profiler.experimental.stop()
        self._tracker.log_artifact(self._folder / "plugins", "timeline")
        log.info("train: timeline of steps %d to %d: slipway tensorboard", *self._steps)
