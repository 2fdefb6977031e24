"""Load on a predict URL: as fast as some callers can (load test), or at a steady rate (replay)."""

import asyncio
import itertools
import json
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import aiohttp
import numpy as np

from contract.errors import DataError
from contract.records.package import LoadReport

_REQUEST_TIMEOUT_SECONDS = 30.0
_PROGRESS_SECONDS = 0.5
_PERCENTILES = ("0", "10", "25", "50", "75", "90", "95", "99", "99.5", "99.9", "100")

Progress = Callable[[LoadReport], None]


@dataclass(frozen=True)
class Load:
    """What to send, where to and how fast. One request carries one row; rows are repeated."""

    url: str
    rows: Sequence[Any]
    seconds: float
    concurrency: int = 16
    rate: float | None = None  # requests a second; None: each caller sends when it is answered
    most_requests: int | None = None  # ends earlier with them
    headers: Mapping[str, str] = field(default_factory=dict)
    certificate_file: Path | None = None  # what to trust, where the URL is https
    key: str = "instances"  # of a body, under which its row stands
    more: Mapping[str, Any] = field(default_factory=dict)  # that each body holds


def run_load(load: Load, on_progress: Progress | None = None) -> LoadReport:
    """Send requests and return counts, rate and latency percentiles; see `send_load`."""
    return asyncio.run(send_load(load, on_progress))


async def send_load(load: Load, on_progress: Progress | None = None) -> LoadReport:
    """Send requests for `load.seconds`, or `most_requests` of them, and return what was seen.

    At a given rate a latency counts from the moment at which the request was due: a server that
    stalls is charged for the requests that had to wait behind (no "coordinated omission").
    A request fails by any status but 200, by a broken connection or by taking over 30 s. Requests
    still under way at the end are waited for.

    Args:
        load: What to send.
        on_progress: Called every half a second with the report so far.

    Raises:
        DataError: If there are no rows.
    """
    if not load.rows:
        raise DataError(f"{load.url}: no rows to send; expected at least one")
    tally = _Tally()
    timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=load.concurrency, ssl=_trust(load))
    headers = {"content-type": "application/json", **load.headers}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as http:
        watcher = asyncio.create_task(_watch(tally, on_progress)) if on_progress else None
        try:
            due = _due_times(load, tally.started)
            bodies = itertools.cycle(_bodies(load))
            caller = _Caller(load.url, http, tally)
            await asyncio.gather(*(caller.work(due, bodies) for _ in range(load.concurrency)))
        finally:
            if watcher is not None:
                watcher.cancel()
    report = tally.report()
    if on_progress:
        on_progress(report)
    return report


def _bodies(load: Load) -> list[str]:
    return [json.dumps({**load.more, load.key: [row]}) for row in load.rows]


class _Tally:
    """Counts and latencies so far."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.latencies_ms = array("d")
        self.errors = 0
        self.first_error = ""

    def add(self, due: float, error: str) -> None:
        self.latencies_ms.append((time.perf_counter() - due) * 1000)
        if error:
            self.errors += 1
            self.first_error = self.first_error or error

    def report(self) -> LoadReport:
        seconds = time.perf_counter() - self.started
        latencies = np.frombuffer(self.latencies_ms) if self.latencies_ms else np.zeros(1)
        taken = np.percentile(latencies.copy(), [float(one) for one in _PERCENTILES]).tolist()
        percentiles_ms = dict(zip(_PERCENTILES, taken, strict=True))
        return LoadReport(
            requests=len(self.latencies_ms),
            errors=self.errors,
            seconds=seconds,
            requests_per_second=len(self.latencies_ms) / seconds,
            p50_ms=percentiles_ms["50"],
            p95_ms=percentiles_ms["95"],
            p99_ms=percentiles_ms["99"],
            percentiles_ms=percentiles_ms,
            first_error=self.first_error,
        )


@dataclass(frozen=True)
class _Caller:
    """One caller of many: takes the next due time and the next body, until time is over."""

    url: str
    http: aiohttp.ClientSession
    tally: _Tally

    async def work(self, due_times: Iterator[float], bodies: Iterator[str]) -> None:
        for due in due_times:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self.tally.add(due, await self._send(next(bodies)))

    async def _send(self, body: str) -> str:
        """Return what went wrong, or an empty string."""
        try:
            async with self.http.post(self.url, data=body) as answer:
                text = await answer.text()
                return "" if answer.status == 200 else f"status {answer.status}: {text[:200]}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"{type(error).__name__}: {error}"


def _due_times(load: Load, started: float) -> Iterator[float]:
    """Yield when each request is due, shared by all callers; it ends when time is over."""
    return itertools.islice(_due_until_the_end(load, started), load.most_requests)


def _due_until_the_end(load: Load, started: float) -> Iterator[float]:
    ends = started + load.seconds
    if load.rate is None:
        while (now := time.perf_counter()) < ends:
            yield now
        return
    for number in itertools.count():
        if (due := started + number / load.rate) >= ends:
            return
        yield due


async def _watch(tally: _Tally, on_progress: Progress) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        on_progress(tally.report())


def _trust(load: Load) -> SSLContext | bool:
    if load.certificate_file is None:
        return True
    return create_default_context(cafile=str(load.certificate_file))
