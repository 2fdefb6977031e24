"""The micro-batcher: everybody gets their own rows, whatever else is in the batch."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.schema.serving import ServeConfig
from serving.server.core.batching import Batcher, BatchObserver, Job, Outcome
from serving.server.requests.errors import OverloadedError, TooLargeError

BAD = -1  # the engine fails on a batch that holds it
PADDING = -99


def double(signature: str, columns: Any) -> dict[str, np.ndarray]:
    factor = 2 if signature == "twice" else 3
    if (columns["x"] == BAD).any():
        raise ArithmeticError("bad row")
    return {"y": factor * columns["x"][:, 0], "width": (columns["x"] != PADDING).sum(axis=1)}


def rows_of(values: Sequence[int], width: int) -> np.ndarray:
    return np.repeat(np.array(values, np.int64)[:, None], width, axis=1)


async def answers(jobs: list[tuple[str, list[int], int]], config: ServeConfig) -> list[Outcome]:
    """Submit (signature, values, width) jobs, some at once and some later; return outcomes."""
    batcher = Batcher(double, config, {"x": PADDING}, BatchObserver())
    found: list[asyncio.Future[Outcome]] = []
    for number, (signature, values, width) in enumerate(jobs):
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        found.append(future)
        columns = {"x": rows_of(values, width)}
        batcher.submit(Job(signature, columns, len(values), future.set_result))
        if number % 3 == 0:
            await asyncio.sleep(0)
    outcomes = await asyncio.wait_for(asyncio.gather(*found), 20)
    batcher.close()
    assert batcher.waiting_rows == 0
    return outcomes


JOB = st.tuples(
    st.sampled_from(["twice", "thrice"]),
    st.lists(st.integers(BAD, 50), min_size=1, max_size=9),
    st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(JOB, min_size=1, max_size=25),
    st.integers(1, 8),
    st.integers(1, 3),
    st.sampled_from([0, 500]),
)
def test_concurrent_jobs_get_their_own_answers(jobs, batch_size, threads, timeout_micros):
    config = ServeConfig(
        max_batch_size=batch_size,
        max_enqueued_batches=500,
        num_batch_threads=threads,
        batch_timeout_micros=timeout_micros,
    )
    outcomes = asyncio.run(answers(jobs, config))
    for (signature, values, width), outcome in zip(jobs, outcomes, strict=True):
        if BAD in values:
            assert isinstance(outcome, ArithmeticError)
            continue
        assert not isinstance(outcome, Exception)
        factor = 2 if signature == "twice" else 3
        assert outcome["y"].tolist() == [factor * value for value in values]
        assert outcome["width"].tolist() == [width] * len(values)  # the rest was padding


def test_what_waits_while_the_model_is_busy_goes_together():
    sizes: list[int] = []

    def slow(signature: str, columns: Any) -> dict[str, np.ndarray]:
        sizes.append(len(columns["x"]))
        time.sleep(0.1)
        return {"y": columns["x"]}

    async def scenario() -> None:
        batcher = Batcher(slow, ServeConfig(), {}, BatchObserver())
        done = asyncio.Event()
        outcomes: list[Outcome] = []

        def collect(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == 11:
                done.set()

        batcher.submit(Job("s", {"x": np.zeros(1)}, 1, collect))
        await asyncio.sleep(0.02)
        for _ in range(10):
            batcher.submit(Job("s", {"x": np.zeros(1)}, 1, collect))
        await asyncio.wait_for(done.wait(), 5)

    asyncio.run(scenario())
    assert sizes == [1, 10]


def test_a_long_row_does_not_pad_its_neighbours():
    shapes: list[tuple[int, ...]] = []

    def slow(signature: str, columns: Any) -> dict[str, np.ndarray]:
        shapes.append(columns["x"].shape)
        time.sleep(0.05)
        return {"y": columns["x"][:, 0]}

    async def scenario() -> None:
        batcher = Batcher(slow, ServeConfig(), {"x": 0.0}, BatchObserver())
        outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        batcher.submit(Job("s", {"x": np.zeros((1, 1))}, 1, outcomes.put_nowait))
        await asyncio.sleep(0.02)
        for width in (10, 20, 50_000, 10):
            batcher.submit(Job("s", {"x": np.zeros((1, width))}, 1, outcomes.put_nowait))
        for _ in range(5):
            await asyncio.wait_for(outcomes.get(), 5)

    asyncio.run(scenario())
    assert shapes == [(1, 1), (2, 20), (1, 50_000), (1, 10)]


def test_the_timeout_waits_for_company_and_a_full_batch_does_not_wait():
    sizes: list[int] = []

    def count(signature: str, columns: Any) -> dict[str, np.ndarray]:
        sizes.append(len(columns["x"]))
        return {"y": columns["x"]}

    async def scenario() -> None:
        config = ServeConfig(max_batch_size=3, batch_timeout_micros=100_000)
        batcher = Batcher(count, config, {}, BatchObserver())
        outcomes: list[Outcome] = []
        for _ in range(4):
            batcher.submit(Job("s", {"x": np.zeros(1)}, 1, outcomes.append))
            await asyncio.sleep(0.005)
        assert sizes == [3]
        await asyncio.sleep(0.3)
        assert sizes == [3, 1]

    asyncio.run(scenario())


def test_the_model_is_called_off_the_event_loop():
    seen: list[int] = []

    def note(signature: str, columns: Any) -> dict[str, np.ndarray]:
        seen.append(threading.get_ident())
        return {"y": columns["x"]}

    async def scenario() -> None:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        batcher = Batcher(note, ServeConfig(), {}, BatchObserver())
        batcher.submit(Job("s", {"x": np.zeros(1)}, 1, future.set_result))
        await future

    asyncio.run(scenario())
    assert seen != [threading.get_ident()]


def test_a_full_queue_and_an_oversized_job_are_refused():
    async def scenario() -> None:
        config = ServeConfig(max_batch_size=2, max_enqueued_batches=2)
        batcher = Batcher(double, config, {}, BatchObserver())
        done: list[Outcome] = []
        batcher.submit(Job("twice", {"x": np.zeros((3, 1))}, 3, done.append))
        with pytest.raises(OverloadedError, match="3 rows are waiting, at most 4 may"):
            batcher.submit(Job("twice", {"x": np.zeros((2, 1))}, 2, done.append))
        with pytest.raises(TooLargeError, match="found 5 rows, at most 4"):
            batcher.submit(Job("twice", {"x": np.zeros((5, 1))}, 5, done.append))

    asyncio.run(scenario())


def test_an_output_without_an_entry_for_each_row_is_an_error():
    def total(signature: str, columns: Any) -> dict[str, np.ndarray]:
        return {"y": columns["x"].sum(keepdims=True)[:1]}

    async def scenario() -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        batcher = Batcher(total, ServeConfig(), {}, BatchObserver())
        batcher.submit(Job("s", {"x": np.zeros(2)}, 2, future.set_result))
        return await future

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, ValueError)
    assert "output 'y' has not one entry for each of 2 rows" in str(outcome)


def called_sizes(config: ServeConfig, *jobs: tuple[str, int]) -> list[tuple[str, int]]:
    """Return each call's signature and rows, for jobs that wait while a first one is called."""
    calls: list[tuple[str, int]] = []
    may_answer = threading.Event()

    def call(signature: str, columns: Any) -> dict[str, np.ndarray]:
        calls.append((signature, len(columns["x"])))
        may_answer.wait(20)
        return {"y": columns["x"]}

    async def scenario() -> None:
        batcher = Batcher(call, config, {}, BatchObserver())
        found = []
        for number, (signature, rows) in enumerate([("first", 1), *jobs]):
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            batcher.submit(Job(signature, {"x": np.full(rows, number)}, rows, future.set_result))
            found.append((future, [number] * rows))
            while not calls:
                await asyncio.sleep(0.001)
        may_answer.set()
        for future, expected in found:
            outcome = await asyncio.wait_for(future, 20)
            assert not isinstance(outcome, Exception)
            assert outcome["y"].tolist() == expected
        batcher.close()

    asyncio.run(scenario())
    return calls[1:]


def test_jobs_of_several_signatures_share_calls_though_they_come_in_turn():
    jobs = [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("a", 5)]
    config = ServeConfig(max_batch_size=8)
    assert called_sizes(config, *jobs) == [("a", 4), ("b", 6), ("a", 5)]


def test_a_batch_is_filled_up_to_the_next_allowed_size():
    config = ServeConfig(max_batch_size=8, allowed_batch_sizes=(1, 4, 8))
    assert called_sizes(config, ("a", 3), ("b", 1), ("a", 2)) == [("a", 8), ("b", 1)]


def test_without_batching_each_request_has_its_own_call():
    config = ServeConfig(enable_batching=False, batch_timeout_micros=10_000_000)
    assert called_sizes(config, ("a", 1), ("a", 2)) == [("a", 1), ("a", 2)]
