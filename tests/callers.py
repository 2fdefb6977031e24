"""Callers of a data plane, who send predictions and note who answered."""

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
    text: str = ""  # of an answer that is not good


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
            sent, version, text = time.monotonic(), "", ""
            try:
                connection.request("POST", self._path, self._body)
                answer = connection.getresponse()
                content = answer.read()
                version = answer.getheader("x-slipway-version", "") if answer.status == 200 else ""
                who = version or str(answer.status)
                text = "" if version else content.decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                who, text = type(error).__name__, str(error)
            seconds = time.monotonic() - sent
            self.answers.append(Answer(sent, who, seconds, bool(version), text))
            if self._pause:
                time.sleep(self._pause)

    def counted(self) -> Counter[str]:
        """Return how many answers came from each version, and how many were which error."""
        return Counter(answer.who for answer in self.answers)

    def failures(self) -> Counter[str]:
        return Counter(answer.who for answer in self.answers if not answer.is_good)

    def reasons(self) -> Counter[str]:
        """Return how often which error was said in which words."""
        return Counter(f"{one.who}: {one.text}" for one in self.answers if not one.is_good)

    def since(self, moment: float) -> list[Answer]:
        """Return the answers to the requests that were sent after a moment."""
        return [answer for answer in list(self.answers) if answer.sent > moment]

    def last(self, version: int) -> float:
        """Return when the last request was sent that a version answered."""
        return max(answer.sent for answer in self.answers if answer.who == str(version))
