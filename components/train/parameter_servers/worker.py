"""A worker of parameter servers: fetch weights, compute a batch's gradients, send them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from components.data.examples import Batch, ExampleSource
from components.train.input.feeding import ChosenBatches, Order, Position, open_feed
from components.train.learning.gradients import Gradients, gradient_function
from components.train.learning.learner import Learner
from components.train.learning.learner_state import part_random_states
from components.train.learning.steps import Figures, clipped
from components.train.parameter_servers.partition import Slice, joined
from components.train.peers.session import Session
from components.train.peers.team import MemberTeam
from components.train.peers.wire import Array, Connection, Message
from components.train.watch.meter import Meter

log = logging.getLogger("slipway")


class Worker:
    """Computes whatever batch the chief names, until it names no more."""

    def __init__(self, learner: Learner, source: ExampleSource, session: Session) -> None:
        assert isinstance(session.team, MemberTeam)
        self._learner = learner
        self._source = source
        self._team = session.team
        self._index = session.role.index
        self._config = learner.config.train
        addresses = session.role.addresses["ps"]
        self._servers = [
            self._team.call(address, f"ps-{n}", "push") for n, address in enumerate(addresses)
        ]
        for server in self._servers:
            server.set_timeout(self._config.step_timeout_seconds)
            self._team.wake_on_failure(server.close)
        self._variables = [*learner.model.trainable_variables, *learner.statistics]
        self._waited_seconds = 0.0
        self._meter = Meter(lambda: self._waited_seconds)
        part_random_states(learner.random_states, session.role.index + 1)

    def work(self) -> None:
        """Compute batch after batch."""
        step = 0
        while (message := self._team.inbox.get()) is not None:
            if message.kind == "begin":
                self._begin(message)
            elif message.kind == "batch":
                self._one(int(message.fields["number"]))
                step += 1
                self._team.figures["step"] = step
                if step % self._config.log_every_steps == 0:
                    figures = self._meter.read(step, self._examples)
                    self._team.figures = {**figures, "step": step}

    def _begin(self, message: Message) -> None:
        fields = message.fields
        self._slices = [Slice(*one) for one in fields["slices"]]
        size = self._size = int(fields["batch_size"])
        order = Order(
            batch_size=size,
            seed=self._config.seed,
            position=Position(*fields["position"]),
            lanes=int(fields["lanes"]),
            shuffle_examples=self._config.shuffle_examples,
        )
        peers = self._learner.peers
        rows = slice(size * self._index // peers, size * (self._index + 1) // peers)
        self._rows = rows if peers > 1 else slice(0, size)
        self._examples = self._rows.stop - self._rows.start
        # with weights each worker must know the whole batch's, and reads it whole
        self._reads_whole = peers == 1 or self._learner.config.weight is not None
        if not self._reads_whole:
            order = replace(order, worker=self._index, workers=peers)
        self._batches: ChosenBatches = open_feed(self._source, order).chosen()
        self._compute = _compute(self._learner, size)
        self._meter.start(0)

    def _one(self, number: int) -> None:
        started = time.monotonic()
        whole = self._batches.read(number)
        batch, weight = whole, tf.reduce_sum(whole.weights)
        if self._reads_whole and self._learner.peers > 1:
            batch = tf.nest.map_structure(lambda column: column[self._rows], whole)
        elif self._learner.peers > 1:
            weight = tf.constant(float(self._size))
        input_seconds = time.monotonic() - started
        versions = self._pull()
        figures, changes = self._compute(batch, weight)
        self._push(number, versions, [np.asarray(change) for change in changes])
        fields = {name: float(value) for name, value in figures.items()}
        fields["input_seconds"] = input_seconds
        self._meter.note({"input_seconds": input_seconds})
        self._team.tell("computed", {"number": number, "figures": fields})

    def _pull(self) -> list[int]:
        started = time.monotonic()
        answers = _ask_all(self._servers, "pull")
        self._waited_seconds += time.monotonic() - started
        values: list[Array] = [np.empty(0)] * len(self._slices)
        for server, answer in enumerate(answers):
            mine = [n for n, one in enumerate(self._slices) if one.server == server]
            for number, array in zip(mine, answer.arrays, strict=True):
                values[number] = array
        for variable, value in joined(self._slices, values).items():
            self._variables[variable].assign(value)
        return [int(answer.fields["version"]) for answer in answers]

    def _push(self, number: int, versions: Sequence[int], changes: Sequence[Array]) -> None:
        started = time.monotonic()
        for index, server in enumerate(self._servers):
            arrays = [s.of(changes[s.variable]) for s in self._slices if s.server == index]
            share = self._index if self._learner.peers > 1 else 0
            fields = {"number": number, "share": share, "version": versions[index]}
            server.send("push", fields, arrays)
        for server in self._servers:
            server.receive()
        self._waited_seconds += time.monotonic() - started


def _compute(learner: Learner, batch_examples: int) -> Any:
    """Return the traced `(batch, weight) -> (figures, changes)`, changes by variable.

    A change is the gradient of a trainable variable, and by how much a moving statistic moved.
    """
    gradients_of = gradient_function(learner)
    statistics = learner.statistics
    is_together = learner.peers > 1

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def compute(batch: Batch, weight: tf.Tensor) -> tuple[Figures, Gradients]:
        before = [tf.identity(tf.convert_to_tensor(v)) for v in statistics]
        with tf.control_dependencies(before):
            loss, gradients = gradients_of(batch, weight)
        figures = {"loss": loss}
        if learner.config.train.clip_norm is not None and not is_together:
            gradients, figures["gradient_norm"] = clipped(gradients, learner)
        share = tf.cast(tf.shape(batch.weights)[0], tf.float32) / float(batch_examples)
        moved = [
            (tf.convert_to_tensor(v) - b) * tf.cast(share, v.dtype)
            for v, b in zip(statistics, before, strict=True)
        ]
        dense = [
            tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, learner.model.trainable_variables, strict=True)
        ]
        return figures, [*dense, *moved]

    return compute


def _ask_all(servers: Sequence[Connection], kind: str) -> list[Message]:
    """Ask all first, then hear all: they answer side by side."""
    for server in servers:
        server.send(kind)
    return [server.receive() for server in servers]
