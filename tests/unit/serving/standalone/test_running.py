"""How many calls of a model may wait."""

import asyncio
import math
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.schema.serving import ServeConfig
from serving.server.core.spans import Spans
from serving.server.requests.errors import OverloadedError
from serving.standalone.configuration import Batching
from serving.standalone.running import MOST_CALLS, BatchingRunner, DirectRunner

from .conftest import Halving

INPUTS = {"x:0": np.array([2.0], np.float32)}


async def expect_refusal(model: Halving, call: Awaitable[Any]) -> None:
    message = f"{MOST_CALLS} calls of the model wait or run, at most {MOST_CALLS} may; try again"
    try:
        with pytest.raises(OverloadedError, match=message):
            await asyncio.wait_for(call, 10)
    except BaseException:
        model.may_answer.set()  # for the threads to end
        raise


def test_more_calls_than_may_wait_are_refused_until_some_are_answered(tmp_path: Path) -> None:
    model = Halving(tmp_path / "1")
    model.may_answer.clear()

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            runner = DirectRunner(model, threads)

            async def run() -> float:
                (found,) = await runner.run(INPUTS, ["y:0"], math.inf, Spans())
                return float(found[0])

            calls = [asyncio.create_task(run()) for _ in range(MOST_CALLS)]
            await asyncio.sleep(0)
            await expect_refusal(model, run())
            for call in calls[24:]:  # their callers leave: the queue is as long as before
                call.cancel()
            await asyncio.sleep(0)
            await expect_refusal(model, run())
            model.may_answer.set()
            assert await asyncio.gather(*calls[:24]) == [2.0] * 24
            assert all(call.cancelled() for call in calls[24:])
            while runner.calls:
                await asyncio.sleep(0.001)
            assert await run() == 2.0

    asyncio.run(main())
    assert len(model.calls) == 24 + 1  # nobody waited for the others


def test_a_call_that_fails_counts_no_longer(tmp_path: Path) -> None:
    model = Halving(tmp_path / "1")

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            runner = DirectRunner(model, threads)
            for _ in range(MOST_CALLS + 1):
                with pytest.raises(TimeoutError):
                    await runner.run(INPUTS, ["y:0"], 0.0, Spans())

    asyncio.run(main())
    assert not model.calls


def test_a_call_without_rows_does_not_wait_for_a_batch_and_is_counted(tmp_path: Path) -> None:
    model = Halving(tmp_path / "1")
    model.may_answer.clear()
    none = {"x:0": np.zeros(0, np.float32)}

    async def main() -> None:
        runner = BatchingRunner(model, Batching(ServeConfig(), 1000))

        async def run() -> int:
            (found,) = await runner.run(none, ["y:0"], math.inf, Spans())
            return len(found)

        calls = [asyncio.create_task(run()) for _ in range(MOST_CALLS)]
        await asyncio.sleep(0)
        await expect_refusal(model, run())
        model.may_answer.set()
        assert await asyncio.gather(*calls) == [0] * MOST_CALLS
        runner.close()

    asyncio.run(main())
