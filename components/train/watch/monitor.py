"""What looks on while a training runs: meter, MLflow, TensorBoard, profiler, watchdog."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import keras

from components.runs.summaries import Summaries
from components.runs.tracking import Tracker
from components.train.peers.team import ChiefTeam, leave
from components.train.watch.meter import Meter
from components.train.watch.progress import Progress
from components.train.watch.timeline import Timeline
from components.train.watch.watchdog import Watchdog
from contract.errors import SlipwayError
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
        self._watchdog = (
            Watchdog(watched.config, _give_up, dict)
            if team is None
            else Watchdog(watched.config, team.fail, team.figures)
        )

    def start(self, step: int) -> None:
        """Begin at a step."""
        self._meter.start(step)
        self._progress.start()
        self._watchdog.start(step)

    def stepped(self, step: int) -> None:
        """Take note that a step is done."""
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
        self._watchdog.stop()


def _give_up(error: SlipwayError) -> None:
    log.error("train: %s", error)
    leave(error.exit_code)
