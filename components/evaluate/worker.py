"""An evaluator at work: carries out what the protocol says, action by action, on real storage."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from components.evaluate.protocol import Action, Kind, State, advance
from components.evaluate.queue import Queue
from contract.errors import DataError, NotFoundError, ServiceUnavailableError, SlipwayError
from contract.records.evaluation import Verdict
from contract.records.training import TrainingEnded

_BEATS_A_LEASE = 4

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class Duties:
    """What a worker does beside the queue.

    Attributes:
        judge: Judges the checkpoint of a step; DataError, NotFoundError or
            FileNotFoundError: it is broken or gone.
        announce: Makes a verdict known, so that doing it twice is as doing it once; None for
            helpers.
        check: Raises ConflictError if a later attempt has taken this one's place.
        idle: Does a little of what can wait; tells whether there was any.
        announced: Steps that need no announcement.
    """

    judge: Callable[[int], Verdict]
    announce: Callable[[Verdict], None] | None
    check: Callable[[], None]
    idle: Callable[[], bool] = lambda: False
    announced: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and by which clock."""

    poll_seconds: float
    timeout_seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Worker:
    """Judges the checkpoints of one queue until training has ended and all are judged."""

    def __init__(self, queue: Queue, duties: Duties, patience: Patience) -> None:
        self._queue = queue
        self._duties = duties
        self._patience = patience
        self._verdict: Verdict | None = None
        self._claimed_at = 0.0
        self._worked_at = patience.clock()
        self.state = State(duties.announce is not None, announced=duties.announced)
        self.ended: TrainingEnded | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state.action.kind is Kind.END

    def work_off(self) -> TrainingEnded:
        """Work until all is done; return how training ended.

        Raises:
            ServiceUnavailableError: If there was nothing to do for `timeout_seconds`.
            ConflictError: If a later attempt has taken over.
        """
        while not self.is_done:
            self.advance()
        assert self.ended is not None  # the protocol ends only then
        return self.ended

    def advance(self) -> None:
        """Carry out one action."""
        self.state = advance(self.state, self._perform(self.state.action))

    def _perform(self, action: Action) -> Any:  # noqa: C901, PLR0911, PLR0912 (a case for each action)
        step = action.checkpoint.step
        match action.kind:
            case Kind.LOOK_IF_ENDED:
                self._duties.check()
                self.ended = self._queue.ended()
                return self.ended is not None
            case Kind.LIST_CHECKPOINTS:
                return self._queue.checkpoints()
            case Kind.LIST_VERDICTS:
                return self._queue.judged()
            case Kind.LOOK_AT_LEASE:
                return self._queue.lease(step)
            case Kind.CLAIM:
                self._claimed_at = self._patience.clock()
                return self._queue.claim(step, action.token)
            case Kind.CHECK_LEASE:
                self._duties.check()
                return self._queue.holds(step, action.token)
            case Kind.RELEASE:
                return self._queue.release(step, action.token)
            case Kind.JUDGE:
                return self._judge(action)
            case Kind.PUBLISH:
                return self._publish(action)
            case Kind.ANNOUNCE:
                return self._announce(step)
            case Kind.WAIT:
                return self._wait()
            case Kind.END:
                return None

    def _judge(self, action: Action) -> bool:
        try:
            self._verdict = self._duties.judge(action.checkpoint.step)
        except (DataError, NotFoundError, FileNotFoundError) as error:
            if action.checkpoint.step not in self._queue.judged():  # else: judged and removed
                log.warning("evaluate: checkpoint skipped: %s", error)
            return False
        return True

    def _publish(self, action: Action) -> bool:
        assert self._verdict is not None  # the protocol publishes only what was judged
        step, own = action.checkpoint.step, self._patience.clock() - self._claimed_at
        waited = self._queue.claimed_after_seconds(step, action.token)
        figures = {
            "lag_seconds": waited + own,
            "judge_seconds": own,
            "judged_by": str(self._queue.holder),
            "checkpoint": action.checkpoint.digest,
        }
        verdict, self._verdict = self._verdict.model_copy(update=figures), None
        self._worked_at = self._patience.clock()
        if is_ours := self._queue.publish(verdict):
            log.info(
                "evaluate: checkpoint %d judged by %s, %d examples in %.2f s, lag %.1f s",
                *(step, verdict.judged_by, verdict.examples, own, verdict.lag_seconds),
            )
        else:
            log.info("evaluate: checkpoint %d was judged by another process", step)
        return is_ours

    def _announce(self, step: int) -> None:
        self._duties.check()
        assert self._duties.announce is not None  # the protocol lets the owner announce only
        self._worked_at = self._patience.clock()
        try:
            self._duties.announce(self._queue.verdict(step))
        except DataError as error:
            log.warning("evaluate: not announced: %s", error)

    def _wait(self) -> None:
        patience = self._patience
        if self._duties.idle():
            return
        if patience.clock() - self._worked_at > patience.timeout_seconds:
            raise ServiceUnavailableError(
                f"evaluate: no checkpoint and no end of training in {patience.timeout_seconds:g} "
                "s (evaluate.timeout_seconds); see the log of 'train'"
            )
        patience.sleep(patience.poll_seconds)


@contextmanager
def heartbeat(queue: Queue, lease_seconds: float) -> Iterator[None]:
    """Let a thread show that this process lives, while it judges; the thread ends with it."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(lease_seconds / _BEATS_A_LEASE):
            try:
                queue.beat()
            except (SlipwayError, OSError) as error:
                log.warning("evaluate: no sign of life: %s", error)

    queue.beat()
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
