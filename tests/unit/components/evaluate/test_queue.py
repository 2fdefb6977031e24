"""Leases and verdicts on a folder, with a clock in hand."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.evaluate.protocol import Lease
from components.evaluate.queue import Holder, Queue, Terms
from contract.errors import DataError
from contract.layout import RunLayout
from contract.records.evaluation import Verdict
from contract.records.training import CheckpointManifest
from contract.stores import FolderStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_SECONDS = 10.0


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path, "tiny", "r1")


def queue_of(run: RunLayout, clock: Clock, replica: int, attempt: int = 1) -> Queue:
    terms = Terms(Holder(replica, attempt), LEASE_SECONDS, clock)
    return Queue(run, FolderStore(run.evaluation_queue), terms)


def publish(run: RunLayout, step: int, content: str = "x") -> None:
    manifest = CheckpointManifest(step=step, files={"weights": content}, written_at=NOW)
    manifest.write(run.checkpoint_manifest(step))


def verdict(step: int) -> Verdict:
    return Verdict(step=step, examples=1, metrics={}, judged_at=NOW, lag_seconds=0.0)


def test_a_free_checkpoint_is_claimed_by_one(run: RunLayout, clock: Clock) -> None:
    mine, other = queue_of(run, clock, 0), queue_of(run, clock, 1)
    assert mine.lease(1) == Lease(0, is_free=True)
    assert mine.claim(1, 1)
    assert not other.claim(1, 1)
    assert mine.holds(1, 1)


def test_a_holder_that_moves_is_never_lost(run: RunLayout, clock: Clock) -> None:
    mine, other = queue_of(run, clock, 0), queue_of(run, clock, 1)
    mine.claim(1, 1)
    for _ in range(10):
        mine.beat()
        clock.seconds += 0.9 * LEASE_SECONDS
        assert other.lease(1) == Lease(1, is_free=False)


def test_one_that_stands_still_is_lost_after_the_lease(run: RunLayout, clock: Clock) -> None:
    """Counted from when the observer first saw it: nothing is known of before."""
    mine, other = queue_of(run, clock, 0), queue_of(run, clock, 1)
    mine.beat()
    mine.claim(1, 1)
    clock.seconds = 1000.0
    assert not other.lease(1).is_free
    clock.seconds += LEASE_SECONDS - 0.1
    assert not other.lease(1).is_free
    clock.seconds += 0.2
    assert other.lease(1) == Lease(1, is_free=True)
    assert other.claim(1, 2)
    assert not mine.holds(1, 1)


def test_the_next_attempt_of_a_replica_does_not_wait(run: RunLayout, clock: Clock) -> None:
    queue_of(run, clock, 0, attempt=1).claim(1, 1)
    assert queue_of(run, clock, 0, attempt=2).lease(1) == Lease(1, is_free=True)
    queue_of(run, clock, 0, attempt=2).claim(1, 2)
    assert not queue_of(run, clock, 0, attempt=1).lease(1).is_free


def test_a_released_lease_is_free_at_once(run: RunLayout, clock: Clock) -> None:
    mine, other = queue_of(run, clock, 0), queue_of(run, clock, 1)
    mine.claim(1, 1)
    mine.release(1, 1)
    assert other.lease(1) == Lease(1, is_free=True)


def test_the_first_verdict_stays(run: RunLayout, clock: Clock) -> None:
    mine, other = queue_of(run, clock, 0), queue_of(run, clock, 1)
    assert mine.publish(verdict(7))
    assert not other.publish(verdict(7).model_copy(update={"examples": 2}))
    assert other.verdict(7).examples == 1
    assert other.judged() == {7}
    assert not other.lease(7).is_free


def test_a_checkpoint_is_known_by_its_manifest(run: RunLayout, clock: Clock) -> None:
    queue = queue_of(run, clock, 0)
    run.checkpoint(1).mkdir(parents=True)
    assert queue.checkpoints() == frozenset()
    publish(run, 1)
    (first,) = queue.checkpoints()
    publish(run, 1, "other")
    (second,) = queue.checkpoints()
    assert first.step == second.step == 1
    assert first.digest != second.digest
    queue.publish(verdict(1))
    assert queue.checkpoints() == frozenset()


def test_an_unreadable_manifest_is_named_once(run: RunLayout, clock: Clock, caplog) -> None:
    queue = queue_of(run, clock, 0)
    run.checkpoint(3).mkdir(parents=True)
    run.checkpoint_manifest(3).write_text("{")
    for _ in range(3):
        assert queue.checkpoints() == frozenset()
    assert caplog.text.count("checkpoint 3 skipped") == 1


def test_an_unreadable_verdict_is_a_data_error(run: RunLayout, clock: Clock) -> None:
    run.verdict(1).parent.mkdir(parents=True)
    run.verdict(1).write_text("{")
    with pytest.raises(DataError, match="verdict of checkpoint 1: unreadable"):
        queue_of(run, clock, 0).verdict(1)


def test_the_wait_for_a_claim_is_told_by_the_storages_clock(run: RunLayout, clock: Clock) -> None:
    queue = queue_of(run, clock, 0)
    publish(run, 1)
    queue.claim(1, 1)
    assert 0 <= queue.claimed_after_seconds(1, 1) < 5
    run.checkpoint_manifest(1).unlink()
    assert queue.claimed_after_seconds(1, 1) == 0.0
