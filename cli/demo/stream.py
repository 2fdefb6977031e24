"""The label demo's callers: they send the rows of a stream, one in each request."""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from cli.requests.data_plane import predict_url
from cli.runs.standing import stored_plan
from contract.clients.http import open_client
from contract.errors import ServiceUnavailableError
from contract.layout import PipelineLayout
from contract.records.stack import Stack

# Few while a model is made, so that this has the machine; many while people wait for questions, and
# while a canary is judged on requests.
ROWS_PER_SECOND, AWAITED_ROWS_PER_SECOND = 5.0, 50.0
_LOOK_SECONDS = 1.0


class Stream:
    """A thread that sends rows until `close`."""

    def __init__(
        self,
        stack: Stack,
        layout: PipelineLayout,
        rows: Iterable[Mapping[str, Any]],
    ) -> None:
        self._url, self._rows = predict_url(stack, layout.pipeline), rows
        self._layout, self._looked_at, self._is_trial = layout, 0.0, False
        self._is_over, self._is_awaited = threading.Event(), threading.Event()
        self.answered = self.failed = 0
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send no more rows."""
        self._is_over.set()
        self._thread.join()

    def await_answers(self, count: int, seconds: float) -> None:
        """Send rows faster, until so many more are answered.

        Raises:
            ServiceUnavailableError: If they are not in this time.
        """
        until, wanted = time.monotonic() + seconds, self.answered + count
        self._is_awaited.set()
        while self.answered < wanted and time.monotonic() < until and self._thread.is_alive():
            time.sleep(0.2)
        self._is_awaited.clear()
        if self.answered < wanted:
            raise ServiceUnavailableError(
                f"{self._url}: expected {count:,} more answers in {seconds:.0f} s, and "
                f"{wanted - self.answered:,} are missing; {self.failed:,} requests have failed"
            )

    def _send(self) -> None:
        with open_client(self._url) as http:
            for row in self._rows:
                is_awaited = self._is_awaited.is_set() or self._sees_trial()
                rate = AWAITED_ROWS_PER_SECOND if is_awaited else ROWS_PER_SECOND
                if self._is_over.wait(1 / rate):
                    return
                try:
                    answer = http.post(self._url, json={"instances": [row]})
                    self.answered += answer.is_success
                    self.failed += not answer.is_success
                except httpx.HTTPError:
                    self.failed += 1

    def _sees_trial(self) -> bool:
        """Tell whether a canary is on trial; the plan is read once a second."""
        if (now := time.monotonic()) - self._looked_at > _LOOK_SECONDS:
            self._looked_at, self._is_trial = now, stored_plan(self._layout).trial is not None
        return self._is_trial
