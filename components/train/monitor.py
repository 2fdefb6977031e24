"""What looks on while a training runs: meter, MLflow, TensorBoard, profiler, watchdog."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras

from components.summaries import Summaries
from components.tracking import Tracker
from components.train.meter import Meter
from components.train.progress import Progress
from components.train.team import ChiefTeam, Team
from components.train.timeline import Timeline
from components.train.wire import PeerError
from contract.layout import RunLayout
from contract.schema.training import TrainConfig

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class Watched:
    """Whom a monitor looks at, and where it puts what it sees."""

    config: TrainConfig
    run: RunLayout
    tracker: Tracker
    model: keras.Model
    waited_seconds: Callable[[], float]
    team: ChiefTeam | None = None


class Monitor:
    """The chief's eyes; what the members measure comes to it through the team."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._config = watched.config
        self._meter = Meter(watched.waited_seconds)
        self.note = self._meter.note
        self._progress = Progress(watched.config, watched.tracker)
        self._summaries = Summaries(watched.run.summaries)
        self._timeline = Timeline(
            watched.config.profile_steps, watched.run.summaries, watched.tracker
        )
        self.timeline = self._timeline.step
        self._stalled_seconds = 0.0
        team = watched.team
        self._watchdog = None if team is None else Watchdog(watched.config, team)

    def start(self, step: int) -> None:
        """Begin at a step."""
        self._meter.start(step)
        self._progress.start()
        if self._watchdog is not None:
            self._watchdog.start(step)

    def stepped(self, step: int) -> None:
        """Take note that a step is done."""
        if self._watchdog is not None:
            self._watchdog.stepped(step)
        every = self._config.histogram_every_steps
        if every and step % every == 0:
            self._summaries.histograms(step, self._watched.model.trainable_variables)

    def stalled(self, seconds: float) -> None:
        """Take note for how long training stood still for a checkpoint."""
        self._stalled_seconds += seconds

    def report(self, step: int, learning_rate: float) -> None:
        """Report the interval that ends after `step` steps, of every process."""
        figures = self._meter.read(step, self._config.batch_size)
        figures["learning_rate"] = learning_rate
        figures["checkpoint_stall_ms"] = 1000.0 * self._stalled_seconds
        self._stalled_seconds = 0.0
        if self._watched.team is not None:
            for name, theirs in self._watched.team.figures().items():
                figures |= {f"{name}/{n}": value for n, value in theirs.items() if n != "step"}
        self._progress.report(step, figures)
        self._summaries.scalars(step, figures)

    def close(self) -> None:
        """Write what is buffered."""
        self._timeline.close()
        self._summaries.close()
        if self._watchdog is not None:
            self._watchdog.stop()


class Watchdog:
    """Fails the team when no step is done for `train.step_timeout_seconds`.

    The first step may take `train.start_timeout_seconds`: it is traced and compiled.
    """

    def __init__(self, config: TrainConfig, team: Team) -> None:
        self._config = config
        self._team = team
        self._limit = config.start_timeout_seconds
        self._stopped = threading.Event()
        self._last = (time.monotonic(), 0)

    def start(self, step: int) -> None:
        """Begin to watch."""
        self._last = (time.monotonic(), step)
        threading.Thread(target=self._watch, daemon=True).start()

    def stepped(self, step: int) -> None:
        """Be content."""
        self._last = (time.monotonic(), step)
        self._limit = self._config.step_timeout_seconds

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            at, step = self._last
            if time.monotonic() - at > self._limit:
                self._team.fail(PeerError(self._words(step)))
                return

    def _words(self, step: int) -> str:
        words = f"no step for {self._limit:g} s after step {step} (train.step_timeout_seconds)"
        if isinstance(self._team, ChiefTeam):
            others = [f"{n} at {f.get('step', 0):.0f}" for n, f in self._team.figures().items()]
            words += f"; the others' last steps: {', '.join(others)}"
        return f"{words}; training must start again from the last checkpoint"
