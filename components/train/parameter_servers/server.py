"""A parameter server: holds parts of the variables, and moves them along gradients that come.

Each update has a number, that of its batch, and is applied once, even if it is sent repeatedly. The
server speaks for itself: workers are told at once that their gradients have come, the chief when
they are applied. So nobody waits for somebody who waits.

    as they come    an update is applied when it is there (asynchronous)
    in order        update n waits for n - 1 (asynchronous with bounded staleness)
    together        update n waits for every worker's share (synchronous)
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.train.learning.learner import make_optimizer
from components.train.parameter_servers.slots import server_variable
from components.train.peers.listener import Listener
from components.train.peers.session import Session
from components.train.peers.team import MemberTeam
from components.train.peers.wire import Array, Connection, Message, PeerError
from components.train.watch.meter import Meter
from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")


def serve(config: PipelineConfig, run: RunLayout, session: Session) -> None:
    """Serve until the chief ends.

    Raises:
        SlipwayError: If an optimizer fails, or the chief ends badly.
    """
    assert isinstance(session.team, MemberTeam)
    assert isinstance(session.listener, Listener)
    ParameterServer(config, run, session.team).open(session.listener)
    session.team.wait_for_end()


class ParameterServer:
    """One server's variables and the updates that wait."""

    def __init__(self, config: PipelineConfig, run: RunLayout, team: MemberTeam) -> None:
        self._config = config
        self._run = run
        self._team = team
        self._lock = threading.Condition()
        self._variables: list[keras.Variable] = []
        self._trained = 0  # the first of them; the others are moving statistics
        self._is_applied: set[int] = set()
        self._next = 0  # below it all are applied
        self._version = 0  # updates applied
        self._shares: dict[int, dict[int, tuple[int, list[Array]]]] = {}  # by number and worker
        self._complete: dict[int, tuple[int, list[Array]]] = {}  # with their oldest version
        self._factors: dict[int, float] = {}  # by which to clip
        self._chief: Connection | None = None
        self._busy_seconds = 0.0
        self._meter = Meter(lambda: time.monotonic() - self._busy_seconds)

    def open(self, listener: Listener) -> None:
        """Answer chief and workers."""
        listener.answer("command", lambda c, _: self._guard(c, self._obey))
        listener.answer("push", lambda c, _: self._guard(c, self._answer))

    def _guard(self, connection: Connection, answer: Any) -> None:
        """Answer one connection until it ends; an error of our own ends the training."""
        try:
            while True:
                answer(connection, connection.receive())
        except PeerError:
            connection.close()  # a worker that is gone is the chief's affair
        except Exception as error:
            log.exception("train: %s", self._team.name)
            self._team.report(error)
            self._team.fail(SlipwayError(f"{type(error).__name__}: {error}"))

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Have the variables to oneself; the rest of the time is waiting."""
        with self._lock:
            started = time.monotonic()
            yield
            self._busy_seconds += time.monotonic() - started

    # --- the chief's commands -------------------------------------------------------------------

    def _obey(self, connection: Connection, message: Message) -> None:
        with self._at_work():
            if message.kind == "load":
                self._chief = connection
                self._load(message)
                connection.send("loaded")
            elif message.kind == "read":
                values = [np.array(v) for v in self._variables]
                own = [np.array(v) for v in self._optimizer.variables] if self._trained else []
                connection.send("values", arrays=[*values, *own])
            elif message.kind == "scale":
                self._factors[message.fields["number"]] = message.fields["factor"]
                self._advance()
            elif message.kind == "rate":
                self._optimizer.learning_rate.assign(message.fields["learning_rate"])

    def _load(self, message: Message) -> None:
        """Make the variables under their own paths, for optimizers look at these."""
        paths, trained = message.fields["paths"], int(message.fields["trained"])
        values, slots = message.arrays[: len(paths)], message.arrays[len(paths) :]
        self._variables = [server_variable(p, v) for p, v in zip(paths, values, strict=True)]
        self._trained = trained
        self._optimizer = make_optimizer(self._config, self._run.frozen_pipeline)
        if trained:
            self._optimizer.build(self._variables[:trained])
            for variable, value in zip(self._optimizer.variables, slots, strict=True):
                variable.assign(value)
        trainable = self._variables[:trained]
        self._apply = tf.function(
            lambda gradients: self._optimizer.apply(gradients, trainable), autograph=False
        )
        self._shares_wanted = int(message.fields["shares"])
        self._is_ordered = bool(message.fields["is_ordered"])
        self._is_clipped = bool(message.fields["is_clipped"])

    # --- the workers' requests ------------------------------------------------------------------

    def _answer(self, connection: Connection, message: Message) -> None:
        if message.kind == "pull":
            with self._at_work():
                values, version = [np.array(v) for v in self._variables], self._version
            connection.send("weights", {"version": version}, values)
            return
        with self._at_work():
            self._take(message)
            self._advance()
        connection.send("taken")

    def _take(self, message: Message) -> None:
        """Keep one share of an update; when all are there, they become one."""
        number, share = int(message.fields["number"]), int(message.fields["share"])
        if number < self._next or number in self._is_applied or number in self._complete:
            return  # sent again for a worker that was lost
        shares = self._shares.setdefault(number, {})
        shares[share] = (int(message.fields["version"]), list(message.arrays))
        if len(shares) < self._shares_wanted:
            return
        del self._shares[number]
        # in the order of the workers: a sum of floats depends on it
        parts = [arrays for _, (_, arrays) in sorted(shares.items())]
        sums = [np.sum(part, axis=0) for part in zip(*parts, strict=True)]
        oldest = min(version for version, _ in shares.values())
        self._complete[number] = (oldest, parts[0] if len(parts) == 1 else sums)
        if self._is_clipped:
            square = float(sum(np.sum(np.square(g)) for g in sums[: self._trained]))
            self._tell("norm", {"number": number, "square": square})

    def _advance(self) -> None:
        """Apply every update whose turn it is."""
        while (number := self._ready()) is not None:
            version, sums = self._complete.pop(number)
            staleness = self._version - version
            self._move(sums, self._factors.pop(number, 1.0))
            self._is_applied.add(number)
            self._version += 1
            while self._next in self._is_applied:
                self._is_applied.discard(self._next)
                self._next += 1
            self._tell("applied", {"number": number, "staleness": staleness})
            self._measure()

    def _measure(self) -> None:
        """Let the next beat take along what this server has done."""
        figures = dict(self._team.figures)
        if self._version % self._config.train.log_every_steps == 0:
            figures = self._meter.read(self._version, self._config.train.batch_size)
        self._team.figures = {**figures, "step": self._version}

    def _ready(self) -> int | None:
        for number in sorted(self._complete):
            is_its_turn = number == self._next or not self._is_ordered
            if is_its_turn and (not self._is_clipped or number in self._factors):
                return number
        return None

    def _move(self, sums: Sequence[Array], factor: float) -> None:
        trained, statistics = sums[: self._trained], sums[self._trained :]
        gradients = [tf.constant(g * np.float32(factor) if factor != 1.0 else g) for g in trained]
        if gradients:
            self._apply(gradients)
        for variable, change in zip(self._variables[self._trained :], statistics, strict=True):
            variable.assign_add(change)

    def _tell(self, kind: str, fields: dict[str, Any]) -> None:
        if self._chief is not None:
            self._chief.send(kind, fields)
