"""What notices that a training has stopped without ending."""

import threading
import time
from collections.abc import Callable, Mapping

from components.train.peers.wire import PeerError
from contract.errors import SlipwayError
from contract.schema.training import TrainConfig


class Watchdog:
    """Calls `fail` when no step is done for `train.step_timeout_seconds`.

    The first step may take `train.start_timeout_seconds`: it is traced and compiled. With
    `train.eager` nothing is watched: somebody may sit in a debugger.
    """

    def __init__(
        self,
        config: TrainConfig,
        fail: Callable[[SlipwayError], None],
        others: Callable[[], Mapping[str, Mapping[str, float]]],
    ) -> None:
        self._config = config
        self._fail = fail
        self._others = others
        self._limit = "start_timeout_seconds"
        self._stopped = threading.Event()
        self._last = (time.monotonic(), 0)

    def start(self, step: int) -> None:
        """Begin to watch."""
        self._last = (time.monotonic(), step)
        if not self._config.eager:
            threading.Thread(target=self._watch, daemon=True).start()

    def stepped(self, step: int) -> None:
        """Be content."""
        self._last = (time.monotonic(), step)
        self._limit = "step_timeout_seconds"

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            at, step = self._last
            seconds = float(getattr(self._config, self._limit))
            if time.monotonic() - at > seconds:
                self._fail(PeerError(self._words(seconds, step)))
                return

    def _words(self, seconds: float, step: int) -> str:
        words = f"no step for {seconds:g} s after step {step} (train.{self._limit})"
        if others := [f"{n} at {f.get('step', 0):.0f}" for n, f in self._others().items()]:
            words += f"; the others' last steps: {', '.join(others)}"
        return f"{words}; training must start again from the last checkpoint"
