"""What a person and MLflow see of a training while it runs."""

import logging
import time
from collections.abc import Callable

from components.tracking import Tracker
from contract.schema import TrainConfig

_LINE_SECONDS = 2.0  # a line in the log at most so often

log = logging.getLogger("slipway")


class Progress:
    """Reports each logging interval: figures to MLflow, and now and then a line to the log."""

    def __init__(
        self, config: TrainConfig, tracker: Tracker, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._tracker = tracker
        self._clock = clock

    def start(self, step: int) -> None:
        """Begin at a step; where that is not 0, ask MLflow what an earlier attempt has logged.

        A killed attempt may have logged steps beyond its last checkpoint. They are trained again,
        on the same data, and not logged again.
        """
        self._reported = (self._clock(), step)
        self._line_at = self._clock() + _LINE_SECONDS
        self._tracked_step = max(self._tracker.logged_steps("loss"), default=0)

    def report(self, step: int, loss: float, learning_rate: float) -> None:
        """Report the interval that ends after `step` steps; `loss` is its mean."""
        now = self._clock()
        then, since = self._reported
        examples_per_second = (step - since) * self._config.batch_size / max(now - then, 1e-9)
        self._reported = (now, step)
        if step > self._tracked_step:
            figures = {
                "loss": loss,
                "learning_rate": learning_rate,
                "examples_per_second": examples_per_second,
            }
            self._tracker.log_metrics(figures, step=step)
        if now >= self._line_at or step >= self._config.steps:
            self._line_at = now + _LINE_SECONDS
            left = (self._config.steps - step) * self._config.batch_size / examples_per_second
            log.info(
                "train: step %d of %d, loss %.4f, %.0f examples/s, %.0f s left",
                *(step, self._config.steps, loss, examples_per_second, left),
            )
