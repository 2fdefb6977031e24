"""What one process measures of its own steps between two reports."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping


class Meter:
    """Adds up the figures of some steps; `read` returns them by name and starts again at zero."""

    def __init__(
        self,
        waited_seconds: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waited_seconds = waited_seconds
        self._clock = clock
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self.start(0)

    def start(self, step: int) -> None:
        """Begin to measure at a step."""
        self._begin = (self._clock(), step, self._waited_seconds())

    def note(self, figures: Mapping[str, float]) -> None:
        """Add the figures of one step."""
        for name, value in figures.items():
            self._sums[name] += value
            self._counts[name] += 1

    def read(self, step: int, examples_a_step: float) -> dict[str, float]:
        """Return the figures of the interval that ends after `step` steps.

        Means over the steps of whatever was noted; `step_ms`, `examples_per_second`, and shares of
        the wall time: `input_wait_ratio`, `peer_wait_ratio` (sums over processes, and waiting for
        them) and `idle_ratio`, their sum.
        """
        then, since, waited = self._begin
        seconds = max(self._clock() - then, 1e-9)
        steps = max(step - since, 1)
        input_seconds = self._sums.pop("input_seconds", 0.0)
        figures = {name: total / self._counts[name] for name, total in self._sums.items()}
        input_wait = input_seconds / seconds
        peer_wait = (self._waited_seconds() - waited) / seconds
        figures |= {
            "examples_per_second": steps * examples_a_step / seconds,
            "step_ms": 1000.0 * seconds / steps,
            "input_wait_ratio": input_wait,
            "peer_wait_ratio": peer_wait,
            "idle_ratio": min(1.0, input_wait + peer_wait),
        }
        self._sums.clear()
        self._counts.clear()
        self.start(step)
        return figures
