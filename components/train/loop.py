"""The loop: steps, callbacks, checkpoints, and the ways in which it ends."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from components.data.examples import ExampleSource
from components.models import checkpoints
from components.models.checkpoints import Snapshot
from components.quality.verdicts import EarlyStop, Verdicts, best_step
from components.train.learning.callbacks import Callbacks
from components.train.learning.loss_scale import is_forgiven
from components.train.learning.steppers import Stepper
from components.train.learning.warm_start import choose_start
from components.train.peers.collectives import Alone, Collective
from components.train.peers.failures import explain, is_of_another_process
from components.train.peers.team import Team
from components.train.watch.divergence import DivergedError
from components.train.watch.monitor import Monitor
from components.train.watch.refusal import RefusalWatch
from contract.errors import SlipwayError, UserError
from contract.layout import RunLayout
from contract.storage import Attempt

log = logging.getLogger("slipway")


@dataclass
class Stop:
    """Raised by a signal handler or a member's; `signal` is the signal's name.

    The loop reads it between two steps. Before there is a loop (`is_read`), a signal ends the
    process at once: nothing is there to be published.
    """

    signal: str = ""
    is_read: bool = False


@dataclass
class Place:
    """Where a training's checkpoints go, and by whose right."""

    run: RunLayout
    attempt: Attempt
    team: Team | None = None
    stop: Stop = field(default_factory=Stop)
    clock: Callable[[], float] = time.monotonic
    collective: Collective = field(default_factory=Alone)


class Loop:
    """One attempt at a run's training; `step` is how many steps are done, over all attempts."""

    def __init__(self, stepper: Stepper, place: Place, monitor: Monitor) -> None:
        self.step = 0
        self._stepper = stepper
        self._place = place
        self._monitor = monitor
        self._config = stepper.learner.config.train
        self._callbacks = Callbacks(stepper.learner)
        self._writer = checkpoints.Writer(self._write)
        self._verdicts = Verdicts(place.run)
        self._early_stop = EarlyStop(stepper.learner.config, place.run)
        self._refusal = RefusalWatch(place.run)
        self._published_step = 0
        self._unread: list[Mapping[str, Any]] = []  # still on the device, in order of their steps

    def resume(self) -> int:
        """Load the newest whole checkpoint, if there is one, and return its step."""
        manifest = checkpoints.newest_whole(self._place.run)
        if manifest is not None:
            self.step = self._published_step = manifest.step
        else:
            choose_start(self._stepper.learner, self._place.run, self._place.attempt)
        self._stepper.resume(self._place.run, self.step)
        if self.step:
            log.info("train: resumed from checkpoint %d", self.step)
        return self.step

    def run(self, source: ExampleSource) -> str:
        """Train to the last step, or until a callback or its verdicts stop it; say why it ended.

        Raises:
            DataError: If a shard breaks or the loss is not finite.
            UserCodeError: If the model or a hook raises, or evaluation has refused the model.
            UserError: If `timeout_seconds` are over.
            PeerError: If another process is gone or hangs.
            SlipwayError: After a signal; a retry resumes.
        """
        try:
            self._run()
        except Exception as error:
            found = self._explain(error, source)
            if found is error:
                raise
            raise found from error
        finally:
            self._monitor.close()
        if self.step == self._config.steps:
            return "all steps done"
        why = self._early_stop.reason
        return (
            f"stopped at step {self.step}: {why}"
            if why
            else (f"a callback stopped it at step {self.step}")
        )

    def _run(self) -> None:
        deadline = self._place.clock() + self._config.timeout_seconds
        self._place.stop.is_read = True
        self._monitor.start(self.step)
        self._stepper.open()
        self._callbacks.begin()
        while self.step < self._config.steps and not self._has_stopped:
            self._one_step()
            if self._place.stop.signal or self._place.clock() > deadline:
                self._publish()
                self._writer.wait()
                raise self._interrupted()
        self._publish()
        self._writer.wait()
        self._stepper.finish()
        self._callbacks.end()

    @property
    def _has_stopped(self) -> bool:
        return self._callbacks.have_stopped or bool(self._early_stop.reason)

    def _one_step(self) -> None:
        self._callbacks.before(self.step, self._stepper.position.epoch)
        with self._monitor.timeline(self.step + 1):
            figures = self._stepper.learn(self.step)
        self._callbacks.after(self.step, figures["loss"], self._stepper.position.epoch)
        self.step += 1
        self._unread.append(figures)
        self._monitor.stepped(self.step)
        if self.step % self._config.log_every_steps == 0 or self.step == self._config.steps:
            self._read_figures()
            rate = float(keras.ops.convert_to_numpy(self._stepper.learner.optimizer.learning_rate))
            self._monitor.report(self.step, rate)
        if self.step % self._config.checkpoint_every_steps == 0:
            self._publish()
        self._writer.check()
        self._refusal.check()

    def _read_figures(self) -> None:
        """Fetch the figures of the last steps; done rarely, because it waits for the device."""
        first = self.step - len(self._unread) + 1
        read = [{n: float(value) for n, value in figures.items()} for figures in self._unread]
        self._unread.clear()
        for step, figures in enumerate(read, start=first):
            if not is_forgiven(figures) and (what := _not_finite(figures)):
                self._writer.wait()  # what is being written is the last good checkpoint
                raise self._diverged(f"{what} at step {step}", step)
            self._monitor.note(figures)

    def _publish(self) -> None:
        """Publish the current step's checkpoint, if it is not yet: copy it, write it meanwhile."""
        if self.step == self._published_step:
            return
        started = time.monotonic()
        for figures in self._stepper.settle():
            self.step += 1
            self._unread.append(figures)
        self._read_figures()
        self._writer.submit(self.step, self._stepper.snapshot())
        self._published_step = self.step
        self._monitor.stalled(time.monotonic() - started)

    def _write(self, step: int, snapshot: Snapshot) -> None:
        """Publish a snapshot and remove what is too old; runs beside the training."""
        started = time.monotonic()
        for name, array in snapshot.weights.items():
            if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
                path = name.partition(":")[2]
                raise self._diverged(f"'{path}' is not finite after step {step}", step)
        run = self._place.run
        checkpoints.publish(run, self._place.attempt, step, snapshot)
        best = best_step(self._stepper.learner.config, self._verdicts.read())
        checkpoints.remove_old(run, self._config.keep_checkpoints, best)
        log.info("train: checkpoint %d in %.2f s", step, time.monotonic() - started)

    def _diverged(self, what: str, step: int) -> DivergedError:
        clip = self._config.clip_norm
        steps = [manifest.step for manifest in checkpoints.list_published(self._place.run)]
        return DivergedError(
            f"train: {what}; the last good checkpoint is step {max(steps, default=0)}. Lower "
            f"train.learning_rate (now {self._config.learning_rate:g}), set train.clip_norm (now "
            f"{clip}), or look for missing or huge values in the transformed features",
            good_step=max(steps, default=0),
            noticed_step=step,
        )

    def _interrupted(self) -> SlipwayError:
        if self._place.stop.signal:
            return SlipwayError(
                f"train: {self._place.stop.signal} after step {self.step}; its checkpoint is "
                "published and a retry continues from there"
            )
        return UserError(
            f"train: only {self.step} of {self._config.steps} steps when train.timeout_seconds "
            f"({self._config.timeout_seconds:g}) were over; raise it, or lower train.steps"
        )

    def _explain(self, error: Exception, source: ExampleSource) -> Exception:
        """Say what is behind an error: another process, broken data or a broken model."""
        team = self._place.team
        if team is not None and is_of_another_process(error, self._place.collective):
            error = team.reason_of(error)
        return explain(error, source, self._config.batch_size, self.step)


def _not_finite(figures: Mapping[str, float]) -> str:
    """Say what of a step is not finite; nothing if all is."""
    if not math.isfinite(figures["loss"]):
        return f"the loss is {figures['loss']}"
    return "a gradient is not finite" if figures.get("is_skipped") else ""
