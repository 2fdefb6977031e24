"""Runs a version's graph for requests: each by itself, or several in one call."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from grpc import StatusCode

from serving.server.core.batching import Batcher, BatchObserver, Job, Outcome
from serving.server.core.spans import Spans
from serving.server.engines.engine import Columns, Outputs
from serving.server.grpc.statuses import CallError
from serving.server.requests.errors import OverloadedError
from serving.standalone.configuration import Batching
from serving.standalone.opening import OpenedModel

Array = np.ndarray[Any, Any]

MOST_CALLS = 1024  # of a version, without batching


class Runner(Protocol):
    """Runs one version's graph."""

    async def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], expires_at: float, spans: Spans
    ) -> list[Array]:
        """Return tensors, named as signatures name them, if the model is called in time.

        Raises:
            CallError: If it fails.
            ServingError, TimeoutError: If too much waits, or the deadline passes first.
        """

    def close(self) -> None:
        """End; nothing may run afterwards."""


class DirectRunner:
    """Calls the model once for each request, in threads: those of the loop if none are given.

    Attributes:
        calls: How many wait or run, at most `MOST_CALLS`.
    """

    def __init__(self, model: OpenedModel, threads: ThreadPoolExecutor | None) -> None:
        self._model, self._threads = model, threads
        self.calls = 0

    async def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], expires_at: float, spans: Spans
    ) -> list[Array]:
        if self.calls >= MOST_CALLS:
            raise OverloadedError(
                f"{self.calls} calls of the model wait or run, at most {MOST_CALLS} may; try again"
            )
        self.calls += 1
        has_left = threading.Event()
        calling = asyncio.get_running_loop().run_in_executor(
            self._threads, self._called, inputs, outputs, expires_at, spans, has_left
        )
        calling.add_done_callback(self._ended)
        try:  # a call whose caller has left counts until a thread has taken it from the queue
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            has_left.set()
            raise

    def _ended(self, _calling: "asyncio.Future[list[Array]]") -> None:
        self.calls -= 1

    def close(self) -> None:
        """Nothing: the threads are those of the process."""

    def _called(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        expires_at: float,
        spans: Spans,
        has_left: threading.Event,
    ) -> list[Array]:
        if has_left.is_set() or expires_at <= time.monotonic():
            raise TimeoutError
        started = time.monotonic()
        found = self._model.run(inputs, outputs)
        spans.note_call(started, time.monotonic())
        return found


class _TensorBatcher(Batcher):
    """A batcher of any tensors: NaN and infinity are answers like others."""

    answers_finite_only = False


class BatchingRunner:
    """Lets requests that want the same outputs, and whose rows have one shape, share a call."""

    def __init__(self, model: OpenedModel, batching: Batching) -> None:
        self._model, self._batching = model, batching
        self._direct = DirectRunner(model, None)
        self._batcher = _TensorBatcher(self._called, batching.serve, {}, BatchObserver())

    async def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], expires_at: float, spans: Spans
    ) -> list[Array]:
        loop = asyncio.get_running_loop()
        if not (rows := self._rows(inputs)):  # nothing to share
            return await self._direct.run(inputs, outputs, expires_at, spans)
        found: asyncio.Future[Outcome] = loop.create_future()

        def done(outcome: Outcome) -> None:
            if not found.done():  # the caller may have gone, which cancels it
                found.set_result(outcome)

        job = Job(_key(inputs, outputs), dict(inputs), rows, done, expires_at, spans)
        self._batcher.submit(job)
        outcome = await found
        if isinstance(outcome, Exception):
            raise outcome
        return [outcome[name] for name in outputs]

    def close(self) -> None:
        """End the threads of the batcher."""
        self._batcher.close()

    def _rows(self, inputs: Mapping[str, Array]) -> int:
        sizes = {len(array) if array.ndim else -1 for array in inputs.values()}
        if -1 in sizes:
            raise _invalid("Batching Run() input tensors must have at least one dimension")
        if len(sizes) > 1:
            raise _invalid("Batching Run() input tensors must have equal 0th-dimension size")
        rows = next(iter(sizes), 0)
        if rows > self._batching.most_rows:
            raise _invalid(
                f"Task size {rows} is larger than maximum input batch size "
                f"{self._batching.most_rows}"
            )
        return rows

    def _called(self, key: str, columns: Columns) -> Outputs:
        outputs = key.partition("\n")[0].split("\0")
        return dict(zip(outputs, self._model.run(columns, outputs), strict=True))


def _key(inputs: Mapping[str, Array], outputs: Sequence[str]) -> str:
    """Return what requests that may share a call have in common; it begins with the outputs."""
    shapes = sorted((name, array.shape[1:]) for name, array in inputs.items())
    return "\0".join(outputs) + f"\n{shapes}"


def _invalid(words: str) -> CallError:
    return CallError(StatusCode.INVALID_ARGUMENT, words)
