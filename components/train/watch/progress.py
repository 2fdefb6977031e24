"""A training's figures in MLflow, and now and then a line in the log."""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from components.runs.tracking import Tracker
from contract.schema.training import TrainConfig

_LINE_SECONDS = 2.0  # a line in the log at most so often

log = logging.getLogger("slipway")


class Progress:
    """Reports each logging interval."""

    def __init__(
        self, config: TrainConfig, tracker: Tracker, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._tracker = tracker
        self._clock = clock

    def start(self) -> None:
        """Begin; ask MLflow what an earlier attempt has logged.

        A killed attempt may have logged steps beyond its last checkpoint. They are trained again,
        on the same data, and not logged again.
        """
        self._line_at = self._clock() + _LINE_SECONDS
        self._tracked_step = max(self._tracker.logged_steps("loss"), default=0)

    def report(self, step: int, figures: Mapping[str, float]) -> None:
        """Report the interval that ends after `step` steps: `loss`, `examples_per_second`, ..."""
        now = self._clock()
        if step > self._tracked_step:
            self._tracker.log_metrics(figures, step=step, logged_at=datetime.now(UTC))
        if now >= self._line_at or step >= self._config.steps:
            self._line_at = now + _LINE_SECONDS
            rate = figures["examples_per_second"]
            left = (self._config.steps - step) * self._config.batch_size / rate
            log.info(
                "train: step %d of %d, loss %.4f, %.0f examples/s, %.0f s left",
                *(step, self._config.steps, figures["loss"], rate, left),
            )
