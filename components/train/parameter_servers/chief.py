"""The chief of parameter servers: hands out batches, counts updates, keeps the whole state.

A step is an update that all servers have applied. The chief never hands out a batch beyond the
next checkpoint, so that at a checkpoint all batches before it are in the weights, and none after.
"""

import dataclasses
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from components.data.examples import ExampleSource
from components.models.checkpoints import Snapshot
from components.train.input.feeding import (
    BEGINNING,
    Position,
    continued_order,
    fits_memory,
    plan_lanes,
)
from components.train.learning import learner_state as state
from components.train.learning.learner import Learner, refuse_synchronized, set_rate
from components.train.learning.warm_start import load_start
from components.train.parameter_servers.partition import joined, partition
from components.train.parameter_servers.slots import mark, plan_slots, restore_slots
from components.train.peers.session import Session
from components.train.peers.team import ChiefTeam
from components.train.peers.wire import Array, Connection, Message, PeerError
from contract.layout import RunLayout

_WHOLE = ("Adafactor", "Lamb", "Muon")  # look at a whole variable: they cannot work on its parts

log = logging.getLogger("slipway")


@dataclass
class _Update:
    """What is known of one batch that was handed out."""

    figures: dict[str, float] = field(default_factory=dict)
    computed_by: set[str] = field(default_factory=set)
    applied_by: set[int] = field(default_factory=set)
    staleness: int = 0
    squares: dict[int, float] = field(default_factory=dict)


class ParameterServers:
    """The stepper of strategy `parameter_server`."""

    def __init__(self, learner: Learner, source: ExampleSource, session: Session) -> None:
        assert isinstance(session.team, ChiefTeam)
        self.learner = learner
        self._source = source
        self._config = learner.config.train
        self._team = session.team
        self._batch_size = min(self._config.batch_size, source.examples)
        self._position, self._lanes = BEGINNING, -1
        self._changed = threading.Condition()
        self._known: set[str] = set()
        self._idle: list[str] = []
        self._hands: dict[str, int] = {}  # the batch that a worker has
        self._again: list[int] = []  # batches of workers that were lost
        self._updates: dict[int, _Update] = {}
        self._finished: deque[dict[str, float]] = deque()
        self._handed = 0  # batches handed out since `open`
        self._done = 0
        self._waited_seconds = 0.0
        self._first_step = 0
        self._rate = set_rate(learner)
        self._servers = [
            self._team.call(address, f"ps-{n}", "command")
            for n, address in enumerate(session.role.addresses["ps"])
        ]
        self._variables = [*learner.model.trainable_variables, *learner.statistics]
        shapes = [tuple(v.shape) for v in self._variables]
        is_whole = type(learner.optimizer).__name__ in _WHOLE
        largest = math.inf if is_whole else self._config.partition_mb * (1 << 20)
        self._slices = partition(shapes, len(self._servers), largest)
        self._slots = plan_slots(learner, self._slices, len(self._servers))
        self._answers: list[queue.Queue[Message | None]] = [queue.Queue() for _ in self._servers]
        self._learner_peers = learner.peers
        if learner.peers > 1:
            refuse_synchronized(
                learner.model,
                "workers of parameter servers do not meet within a step; use strategy multi_worker",
            )
        session.team.wake_on_failure(self._wake)

    # --- the stepper's interface -----------------------------------------------------------------

    @property
    def position(self) -> Position:
        """How far the steps that were made have read."""
        return self._position.after(self._done, self._batch_size, self._source.examples)

    def resume(self, run: RunLayout, step: int) -> int:
        """Load a checkpoint; the servers get it when training opens."""
        if step:
            self._position, self._lanes = state.restore(self.learner, run, step)
        else:
            load_start(self.learner, run)
        self._first_step = step
        return step

    def open(self) -> None:
        """Give the servers their variables and the workers their order."""
        config = self._config
        if self._lanes < 0:
            is_in_memory = fits_memory(self._source, config.memory_ratio)
            shards = len(self._source.shards)
            lanes = plan_lanes(self._batch_size, shards, config.sharers)
            self._lanes = 0 if is_in_memory else lanes
        order = continued_order(config, self._source, self._position, self._lanes)
        self._position, self._lanes = order.position, order.lanes
        for number, server in enumerate(self._servers):
            self._load(number, server)
        self._team.on_message(self._hear_worker)
        self._team.on_change(self._joined, self._lost)
        for name in self._team.present("worker"):
            self._joined(name)

    def learn(self, step: int) -> Mapping[str, float]:
        """Wait for the next update; return its figures."""
        self._pass_on_rate()
        with self._changed:
            while not self._finished:
                self._hand_out(self._limit(step))
                self._wait()
            self._done += 1
            self.learner.optimizer.iterations.assign_add(1)
            return self._finished.popleft()

    def settle(self) -> list[dict[str, float]]:
        """Hand out nothing more and wait for what is under way; return its figures."""
        with self._changed:
            while self._done + len(self._finished) < self._handed:
                self._hand_out(self._handed)  # what a lost worker had is another's now
                self._wait()
            figures = list(self._finished)
            self._finished.clear()
            self._done += len(figures)
            return figures

    def snapshot(self) -> Snapshot:
        """Fetch the weights and the optimizer's state from the servers."""
        values: list[Array] = [np.empty(0)] * len(self._slices)
        for server in self._servers:
            server.send("read")
        for number, slots in enumerate(self._slots):
            arrays = self._answer(number, "values").arrays
            for place, array in zip(slots.slices, arrays, strict=False):
                values[place] = array
            slots.keep(arrays[len(slots.slices) :])
        for variable, value in joined(self._slices, values).items():
            self._variables[variable].assign(value)
        restore_slots(self.learner.optimizer, self._slots, self._slices)
        return state.snapshot(self.learner, self.position, self._lanes)

    def _wait(self) -> None:
        """Wait for news, with the lock held."""
        self._team.check()
        started = time.monotonic()
        self._changed.wait(0.2)
        self._waited_seconds += time.monotonic() - started

    def finish(self) -> None:
        """Nothing: the members end when the team does."""

    def waited_seconds(self) -> float:
        """Return the seconds without a batch to hand out and without an update."""
        return self._waited_seconds

    # --- servers --------------------------------------------------------------------------------

    def _load(self, number: int, server: Connection) -> None:
        slots = self._slots[number]
        trained = len(self.learner.model.trainable_variables)
        mine = [self._slices[place] for place in slots.slices]
        fields = {
            "paths": [f"{self._variables[s.variable].path}{mark(n)}" for n, s in enumerate(mine)],
            "trained": sum(s.variable < trained for s in mine),
            "shares": self.learner.peers,
            "is_ordered": self._config.max_staleness is not None,
            "is_clipped": self._config.is_synchronous and self._config.clip_norm is not None,
        }
        values = [s.of(np.array(self._variables[s.variable])) for s in mine]
        server.send("load", fields, [*values, *slots.cut(self.learner.optimizer, self._slices)])
        threading.Thread(target=self._hear_server, args=(number,), daemon=True).start()
        self._answer(number, "loaded")

    def _hear_server(self, number: int) -> None:
        try:
            while True:
                message = self._servers[number].receive()
                if message.kind == "applied":
                    self._note_applied(number, message)
                elif message.kind == "norm":
                    self._note_square(number, message)
                else:
                    self._answers[number].put(message)
        except PeerError:
            self._answers[number].put(None)  # its loss is noticed by the team

    def _answer(self, number: int, kind: str) -> Message:
        message = self._answers[number].get()
        if message is None or message.kind != kind:
            self._team.check()
            raise PeerError(f"ps-{number} is gone")
        return message

    def _note_applied(self, server: int, message: Message) -> None:
        with self._changed:
            update = self._updates[int(message.fields["number"])]
            update.applied_by.add(server)
            update.staleness = max(update.staleness, int(message.fields["staleness"]))
            self._finish_if_done(int(message.fields["number"]))

    def _note_square(self, server: int, message: Message) -> None:
        """Clip the sum of all shares: its norm is known when each server has told its part."""
        number, limit = int(message.fields["number"]), self._config.clip_norm
        assert limit is not None
        with self._changed:
            update = self._updates[number]
            update.squares[server] = float(message.fields["square"])
            if len(update.squares) < len(self._servers):
                return
            norm = math.sqrt(sum(update.squares.values()))
            update.figures["gradient_norm"] = norm
        factor = limit / max(norm, limit)
        for one in self._servers:
            one.send("scale", {"number": number, "factor": factor})

    def _pass_on_rate(self) -> None:
        """Tell the servers a learning rate that a callback has set."""
        now = set_rate(self.learner)
        if now is not None and now != self._rate:
            for server in self._servers:
                server.send("rate", {"learning_rate": now})
            self._rate = now

    # --- workers --------------------------------------------------------------------------------

    def _joined(self, name: str) -> None:
        if not name.startswith("worker-"):
            return
        with self._changed:
            if name in self._known:
                return
            self._known.add(name)
        fields = {
            "slices": [dataclasses.astuple(one) for one in self._slices],
            "position": list(self._position),
            "lanes": self._lanes,
            "batch_size": self._batch_size,
        }
        self._team.tell(name, "begin", fields)
        with self._changed:
            self._idle.append(name)
            self._changed.notify_all()

    def _lost(self, name: str) -> None:
        with self._changed:
            self._known.discard(name)
            if name in self._idle:
                self._idle.remove(name)
            if (number := self._hands.pop(name, None)) is not None:
                self._again.append(number)
            self._changed.notify_all()

    def _hear_worker(self, name: str, message: Message) -> None:
        number, figures = int(message.fields["number"]), message.fields["figures"]
        with self._changed:
            self._hands.pop(name, None)
            self._idle.append(name)
            update = self._updates.get(number)
            if update is not None and name not in update.computed_by:
                update.computed_by.add(name)
                for figure, value in figures.items():
                    update.figures[figure] = update.figures.get(figure, 0.0) + value
                self._finish_if_done(number)
            self._changed.notify_all()

    def _hand_out(self, limit: int) -> None:
        """Give idle workers what is next; called with the lock held."""
        if self._learner_peers > 1:
            self._hand_out_shares(limit)
            return
        bound = self._config.max_staleness
        while self._idle:
            under_way = len(self._updates)
            if self._again:
                number = self._again.pop(0)
            elif self._handed < limit and (bound is None or under_way <= bound):
                number, self._handed = self._handed, self._handed + 1
                self._updates[number] = _Update()
            else:
                return
            self._give(self._idle.pop(0), number)

    def _hand_out_shares(self, limit: int) -> None:
        """Give all workers the same batch, once the last one is applied."""
        if self._updates or self._handed >= limit or len(self._idle) < self._learner_peers:
            return
        number, self._handed = self._handed, self._handed + 1
        self._updates[number] = _Update()
        workers, self._idle = self._idle, []
        for name in workers:
            self._give(name, number)

    def _give(self, name: str, number: int) -> None:
        self._hands[name] = number
        self._team.tell(name, "batch", {"number": number})

    def _finish_if_done(self, number: int) -> None:
        update = self._updates[number]
        if len(update.applied_by) < len(self._servers):
            return
        if len(update.computed_by) < self._learner_peers:
            return
        del self._updates[number]
        update.figures["staleness"] = float(update.staleness)
        self._finished.append(update.figures)
        self._changed.notify_all()

    def _limit(self, step: int) -> int:
        """Return how many batches may be handed out in all: up to the next checkpoint."""
        every = self._config.checkpoint_every_steps
        boundary = min((step // every + 1) * every, self._config.steps)
        return boundary - self._first_step

    def _wake(self) -> None:
        for answers in self._answers:
            answers.put(None)
        with self._changed:
            self._changed.notify_all()
