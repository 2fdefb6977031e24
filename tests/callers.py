"""Callers of a data plane, who send predictions without pause and note who answered."""

import http.client
import json
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, NamedTuple, Self


class Answer(NamedTuple):
    """One request: when it was sent, and which version (or what status or error) came back."""

    sent: float
    who: str
    seconds: float
    is_good: bool


class Callers:
    """Some threads, each with a connection of its own; `sent` is by `time.monotonic`."""

    def __init__(
        self, address: tuple[str, int], pipeline: str, body: Any, count: int = 4, pause: float = 0.0
    ) -> None:
        self._address, self._path = address, f"/v1/models/{pipeline}:predict"
        self._body, self._pause = json.dumps(body), pause
        self._is_stopping = threading.Event()
        self.answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._is_stopping.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        while not self._is_stopping.is_set():
            sent, version = time.monotonic(), ""
            try:
                connection.request("POST", self._path, self._body)
                answer = connection.getresponse()
                answer.read()
                version = answer.getheader("x-slipway-version", "") if answer.status == 200 else ""
                who = version or str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                who = type(error).__name__
            self.answers.append(Answer(sent, who, time.monotonic() - sent, bool(version)))
            if self._pause:
                time.sleep(self._pause)

    def counted(self) -> Counter[str]:
        """Return how many answers came from each version, and how many were which error."""
        return Counter(answer.who for answer in self.answers)

    def failures(self) -> Counter[str]:
        return Counter(answer.who for answer in self.answers if not answer.is_good)

    def last(self, version: int) -> float:
        """Return when the last request was sent that a version answered."""
        return max(answer.sent for answer in self.answers if answer.who == str(version))
