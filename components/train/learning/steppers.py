"""What makes a step: all processes in step with each other; `parameter_servers/` has the other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from components.data.examples import ExampleSource
from components.models.checkpoints import Snapshot
from components.train.input.feeding import (
    Order,
    Position,
    continued_order,
    fits_memory,
    open_feed,
    plan_lanes,
)
from components.train.learning import learner_state as state
from components.train.learning.learner import Learner, set_rate
from components.train.learning.steps import Figures, step_function
from components.train.learning.strategies import batches_of
from components.train.learning.warm_start import load_start
from components.train.peers.collectives import Collective
from contract.layout import RunLayout


class Stepper(Protocol):
    """Learns a step at a time; the loop does everything else."""

    learner: Learner

    @property
    def position(self) -> Position:
        """How far the steps that were made have read."""

    def resume(self, run: RunLayout, step: int) -> int:
        """Load the chief's checkpoint; without one (step 0) begin as `choose_start` has chosen."""

    def open(self) -> None:
        """Begin to read examples."""

    def learn(self, step: int) -> Mapping[str, Any]:
        """Make the step after `step`; return its figures, scalars still on the device."""

    def settle(self) -> Sequence[Mapping[str, Any]]:
        """Wait for steps that are under way; return their figures."""

    def snapshot(self) -> Snapshot:
        """Copy what a checkpoint holds."""

    def finish(self) -> None:
        """Tell the others that no step will follow."""

    def waited_seconds(self) -> float:
        """Return for how long this process has waited for others so far."""


class InStep:
    """One process alone, or one of several that make every step together."""

    def __init__(self, learner: Learner, source: ExampleSource, collective: Collective) -> None:
        self.learner = learner
        self._source = source
        self._collective = collective
        self._position = Position()
        self._lanes: int | None = None
        self._done = 0
        config = learner.config.train
        self._batch_size = min(config.batch_size, source.examples)
        self._step = step_function(learner, self._batch_size)

    @property
    def position(self) -> Position:
        """How far the steps that were made have read."""
        return self._position.after(self._done, self._batch_size, self._source.examples)

    def resume(self, run: RunLayout, step: int) -> int:
        """Load the chief's checkpoint, take random numbers of one's own; return its step."""
        step = int(self._collective.sum(np.array([step]))[0])  # the members say 0
        if step:
            self._position, self._lanes = state.restore(self.learner, run, step)
        else:
            load_start(self.learner, run)
        state.part_random_states(self.learner.random_states, self._collective.rank)
        return step

    def open(self) -> None:
        """Agree with the others on how to read, and begin to."""
        config = self.learner.config.train
        if self._lanes is None:
            fits = np.array([float(fits_memory(self._source, config.memory_ratio))])
            is_in_memory = self._collective.sum(fits)[0] == self._collective.size
            shards, workers = len(self._source.shards), self._collective.size
            self._lanes = 0 if is_in_memory else plan_lanes(self._batch_size, shards, workers)
        order = continued_order(config, self._source, self._position, self._lanes)
        self._position, self._lanes = order.position, order.lanes
        feed = open_feed(self._source, self._share_of(order))
        rows = self._batch_size // self._collective.size
        self._batches = batches_of(self.learner.strategy, feed.batches(), rows)

    def learn(self, step: int) -> Figures:
        """Make one step together."""
        del step
        self._announce(is_going_on=True)
        figures = self._step(self._batches)
        self._done += 1
        return figures

    def follow(self) -> Figures | None:
        """Wait for the chief's word; make the step with it, or return None: there is none."""
        is_going_on, rate = self._collective.sum(np.zeros(2))
        if not is_going_on:
            return None
        if not math.isnan(rate):
            self.learner.optimizer.learning_rate.assign(rate)
        figures = self._step(self._batches)
        self._done += 1
        return figures

    def settle(self) -> Sequence[Mapping[str, Any]]:
        """Return nothing: a step is made or not."""
        return ()

    def snapshot(self) -> Snapshot:
        """Copy weights, optimizer and the position in the examples."""
        return state.snapshot(self.learner, self.position, self._lanes or 0)

    def finish(self) -> None:
        """Let the others end."""
        self._announce(is_going_on=False)

    def waited_seconds(self) -> float:
        """Return the seconds spent in sums, waiting included."""
        return self._collective.seconds

    def _announce(self, is_going_on: bool) -> None:
        """Tell the others whether a step follows, and the learning rate a callback may have set."""
        if self._collective.size == 1:
            return
        rate = set_rate(self.learner)
        word = [float(is_going_on), math.nan if rate is None else rate]
        self._collective.sum(np.array(word))

    def _share_of(self, order: Order) -> Order:
        return replace(order, worker=self._collective.rank, workers=self._collective.size)
