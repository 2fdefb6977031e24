"""Micro-batching on the event loop, with TensorFlow Serving's parameters.

Requests that arrive while the model is busy wait and go together into its next call; nobody waits
for company longer than `batch_timeout_micros`. Batches are filled up to fixed sizes only if
`allowed_batch_sizes` names some: a SavedModel's signature takes any number of rows without
retracing, and calls of 1 to 64 rows in turn were measured to cost no more than calls of one size.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from contract.schema.serving import ServeConfig
from serving.server.core.padding import PaddedShape
from serving.server.core.spans import Spans
from serving.server.core.unanswerable import Control, ModelCall, OutputShapeError, Search
from serving.server.engines.engine import (
    Columns,
    NotFiniteError,
    Outputs,
    RefusedInputError,
    first_row_not_finite,
    is_finite,
)
from serving.server.requests.errors import DeadlineError, OverloadedError, TooLargeError

log = logging.getLogger("slipway")

_EXPIRED = "the deadline passed while the request waited for the model"

Outcome = Outputs | Exception
Done = Callable[[Outcome], None]


@dataclass(slots=True)
class Job:
    """Rows that wait for the model. `done` is called once, on the event loop.

    After `expires_at` (of `time.monotonic()`) the model is not called for them any more.
    """

    signature: str
    columns: Columns
    rows: int
    done: Done
    expires_at: float = math.inf
    spans: Spans = field(default_factory=Spans)
    waits_since: float = field(default_factory=time.monotonic)


class BatchObserver:
    """Told of each batch; metrics override it."""

    def observe_batch(self, rows: int, seconds: float) -> None:
        """One call of the model, `rows` together."""


class Batcher:
    """Collects jobs, calls the model in its threads, returns each job's rows.

    Belongs to one event loop: all methods must be called on it. Rows whose answer is NaN or
    infinite are refused, unless a subclass says otherwise: most protocols cannot say it.
    """

    answers_finite_only = True

    def __init__(
        self,
        call: ModelCall,
        config: ServeConfig,
        fillers: Mapping[str, Any],
        observer: BatchObserver,
        control: Control | None = None,
    ) -> None:
        """Batch for `call`.

        Args:
            call: Calls the model.
            config: Sizes and times.
            fillers: By variable-length input, what pads shorter rows.
            observer: Is told of each batch.
            control: Tells rows that the model cannot answer from a model that is broken.
        """
        self._call = call
        self._control = control or Control(call, None)
        self._fillers = fillers
        self._observer = observer
        self._max_rows = config.max_batch_size
        self._shares_calls = config.enable_batching
        self._allowed_sizes = config.allowed_batch_sizes
        self._max_waiting_rows = config.max_request_rows
        self._max_cells = config.max_cells
        self._timeout_seconds = config.batch_timeout_micros / 1e6 if self._shares_calls else 0.0
        self._idle_threads = config.num_batch_threads
        self._executor = ThreadPoolExecutor(config.num_batch_threads, "model")
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Job] = deque()
        self._is_due = self._may_expire = False
        self._timer: asyncio.TimerHandle | None = None
        self.waiting_rows = 0

    def submit(self, job: Job) -> None:
        """Queue a job; one with more rows than fit into a batch is cut and put together again.

        Raises:
            OverloadedError: If the queue is full.
            TooLargeError: If the job alone would overfill it.
        """
        if job.rows > self._max_waiting_rows:
            raise TooLargeError(
                f"found {job.rows} rows, at most {self._max_waiting_rows} are accepted in a "
                "request; send several",
            )
        if self.waiting_rows + job.rows > self._max_waiting_rows:
            raise OverloadedError(
                f"{self.waiting_rows} rows are waiting, at most {self._max_waiting_rows} may "
                "(serve.max_batch_size x serve.max_enqueued_batches); try again"
            )
        if job.expires_at < math.inf:
            self._may_expire = True
        self.waiting_rows += job.rows
        self._jobs.extend([job] if job.rows <= self._max_rows else _cut(job, self._max_rows))
        self._schedule()

    def close(self) -> None:
        """End the threads; nothing may be submitted afterwards."""
        self._executor.shutdown(wait=False)

    def _schedule(self) -> None:
        """See to it that the waiting jobs are dispatched: now if a batch is due, else in time."""
        if self._is_due or not self._idle_threads or not self._jobs:
            return
        age = time.monotonic() - self._jobs[0].waits_since
        if self.waiting_rows >= self._max_rows or age >= self._timeout_seconds:
            self._is_due = True
            # Not at once: first every socket that has data now may add its rows.
            self._loop.call_soon(self._dispatch)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._timeout_seconds - age, self._dispatch)

    def _dispatch(self) -> None:
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._jobs and self._idle_threads:
            self._shed_expired()
        if self._jobs and self._idle_threads:
            self._idle_threads -= 1
            self._executor.submit(self._run, self._take())
            self._schedule()

    def _shed_expired(self) -> None:
        """Refuse the jobs whose callers no longer wait, before work is spent on them."""
        if not self._may_expire:
            return
        now = time.monotonic()
        expired = [job for job in self._jobs if job.expires_at <= now]
        if expired:
            self._jobs = deque(job for job in self._jobs if job.expires_at > now)
            self.waiting_rows -= sum(job.rows for job in expired)
            self._hand_out([(job, DeadlineError(_EXPIRED)) for job in expired])
        self._may_expire = any(job.expires_at < math.inf for job in self._jobs)

    def _take(self) -> list[Job]:
        """Take the first job, and those behind it of the same signature, as many as fit.

        A long row does not share a call with short ones, which would be padded to its length. Jobs
        of other signatures keep their places.
        """
        batch, passed = [self._jobs.popleft()], list[Job]()
        rows, shape = batch[0].rows, self._shape(batch[0])
        while self._shares_calls and self._jobs and rows < self._max_rows:
            if self._jobs[0].signature != batch[0].signature:
                passed.append(self._jobs.popleft())
                continue
            if rows + self._jobs[0].rows > self._max_rows:
                break
            if shape is not None and (other := self._shape(self._jobs[0])) is not None:
                shape = shape.beside(other)
                if not shape.is_worth_it(self._max_cells):
                    break
            rows += self._jobs[0].rows
            batch.append(self._jobs.popleft())
        self._jobs.extendleft(reversed(passed))
        self.waiting_rows -= rows
        return batch

    def _shape(self, job: Job) -> PaddedShape | None:
        """Return what padding costs a job; None where nothing is padded."""
        return PaddedShape.of(job.columns, job.rows, self._fillers) if self._fillers else None

    # --- in a thread of the executor ------------------------------------------------------------

    def _run(self, batch: list[Job]) -> None:
        search = Search(self._control)
        try:
            outcomes = self._call_together(batch)
        except Exception as error:  # noqa: BLE001 (whatever the model raises is the job's answer)
            outcomes = self._apart(batch, error, search)
        pairs = list(zip(batch, outcomes, strict=True))
        if failed := [(job, found) for job, found in pairs if isinstance(found, Exception)]:
            # Their neighbours need not wait until the cause is found.
            pairs = [pair for pair in pairs if not isinstance(pair[1], Exception)]
            self._loop.call_soon_threadsafe(self._hand_out, pairs)
            pairs = [(j, search.explained(j.signature, j.columns, e)) for j, e in failed]
        self._loop.call_soon_threadsafe(self._deliver, pairs)

    def _apart(self, batch: list[Job], error: Exception, search: Search) -> list[Outcome]:
        """Answer jobs whose common call has failed: one bad row must not fail its neighbours.

        They are halved until those that fail are alone: for one of n jobs 2 log2(n) calls, for all
        of them 2n. A model that does not answer the control row either is not called again.
        """
        if not isinstance(error, RefusedInputError) and search.is_model_broken():
            return [error] * len(batch)
        return self._halved(batch, error)

    def _halved(self, batch: list[Job], error: Exception) -> list[Outcome]:
        if len(batch) == 1:
            return [error]
        middle = len(batch) // 2
        return self._tried(batch[:middle]) + self._tried(batch[middle:])

    def _tried(self, batch: list[Job]) -> list[Outcome]:
        try:
            return self._call_together(batch)
        except Exception as error:  # noqa: BLE001 (as above)
            return self._halved(batch, error)

    def _call_together(self, batch: list[Job]) -> list[Outcome]:
        rows = sum(job.rows for job in batch)
        size = next((one for one in self._allowed_sizes if one >= rows), rows)
        started = time.monotonic()
        outputs = self._call(batch[0].signature, _filled_up(self._merge(batch), size - rows))
        ended = time.monotonic()
        self._observer.observe_batch(rows, ended - started)
        for job in batch:
            job.spans.note_call(started, ended)
        faults = [n for n, array in outputs.items() if array.shape[:1] != (size,)]
        if faults:
            raise OutputShapeError(
                f"output '{faults[0]}' has not one entry for each of {size} rows"
            )
        are_finite = not self.answers_finite_only or all(map(is_finite, outputs.values()))
        outcomes: list[Outcome] = []
        start = 0
        for job in batch:
            own = {name: array[start : start + job.rows] for name, array in outputs.items()}
            outcomes.append(own if are_finite else _checked(own))
            start += job.rows
        return outcomes

    def _merge(self, batch: list[Job]) -> Columns:
        if len(batch) == 1:
            return batch[0].columns
        return {
            name: self._concatenate(name, [job.columns[name] for job in batch])
            for name in batch[0].columns
        }

    def _concatenate(self, name: str, arrays: list[np.ndarray]) -> np.ndarray:
        if name not in self._fillers or len({array.shape[1] for array in arrays}) == 1:
            return np.concatenate(arrays)
        rows, width = sum(len(a) for a in arrays), max(a.shape[1] for a in arrays)
        padded = np.full((rows, width), self._fillers[name], arrays[0].dtype)
        start = 0
        for array in arrays:
            padded[start : start + len(array), : array.shape[1]] = array
            start += len(array)
        return padded

    # --- on the event loop again ----------------------------------------------------------------

    def _deliver(self, pairs: Sequence[tuple[Job, Outcome]]) -> None:
        self._idle_threads += 1
        self._schedule()
        self._hand_out(pairs)

    def _hand_out(self, pairs: Sequence[tuple[Job, Outcome]]) -> None:
        for job, outcome in pairs:
            try:
                job.done(outcome)
            except Exception:
                log.exception("answering failed")


def _filled_up(columns: Columns, missing: int) -> Columns:
    """Repeat the first row, which the model answers if it answers any, so often."""
    if not missing:
        return columns
    return {
        name: np.concatenate([array, np.repeat(array[:1], missing, axis=0)])
        for name, array in columns.items()
    }


def _cut(job: Job, max_rows: int) -> list[Job]:
    """Cut a large job into pieces whose outcomes meet again in its `done`."""
    starts = range(0, job.rows, max_rows)
    outcomes: list[Outcome | None] = [None] * len(starts)
    missing = len(starts)

    def collect(index: int, outcome: Outcome) -> None:
        nonlocal missing
        if isinstance(outcome, RefusedInputError):
            outcome.move(starts[index])
        outcomes[index] = outcome
        missing -= 1
        if missing == 0:
            job.done(_joined([o for o in outcomes if o is not None]))

    def piece(index: int, start: int) -> Job:
        columns = {name: array[start : start + max_rows] for name, array in job.columns.items()}
        rows = min(max_rows, job.rows - start)
        done = partial(collect, index)
        return Job(job.signature, columns, rows, done, job.expires_at, job.spans)

    return [piece(index, start) for index, start in enumerate(starts)]


def _joined(outcomes: list[Outcome]) -> Outcome:
    parts: list[Outputs] = []
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            return outcome
        parts.append(outcome)
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:  # an output whose width depends on the neighbours
        return error


def _checked(outputs: Outputs) -> Outcome:
    """Return the outputs, or the error of the first row that has no finite one."""
    if (found := first_row_not_finite(outputs)) is None:
        return outputs
    row, name = found
    return NotFiniteError(name, row)
