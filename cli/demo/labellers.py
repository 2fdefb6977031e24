"""The demo's stand-ins for labellers: they answer over HTTP, each as well as they can."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.clients.http import open_client
from contract.errors import ServiceUnavailableError
from contract.free_ports import free_port
from contract.places import CODE_FOLDER

Truth = Callable[[Mapping[str, Any]], str]  # the right label of a question's inputs

START_SECONDS = 300.0
END_SECONDS = 30.0
_POLL_SECONDS = 0.1
_TOO_MANY = 429


@dataclass(frozen=True)
class Labeller:
    """Somebody who labels. The rest of the answers is wrong: by chance, any other class."""

    name: str
    right_ratio: float

    def says(self, right: str, classes: Sequence[str], chance: random.Random) -> str:
        """Return what they answer where one class is right."""
        if chance.random() < self.right_ratio:
            return right
        return chance.choice([one for one in classes if one != right])


@dataclass(frozen=True)
class LabelPage:
    """A label page that is served, and the tokens of its labellers by name."""

    url: str
    tokens: Mapping[str, str]

    def answer_all(
        self, pipeline: str, people: Sequence[Labeller], truth: Truth, classes: Sequence[str]
    ) -> int:
        """Let everybody answer side by side until nobody is asked anything; return how often."""
        with ThreadPoolExecutor(len(people)) as pool:
            counts = pool.map(lambda one: self._answer(pipeline, one, truth, classes), people)
            return sum(counts)

    def _answer(self, pipeline: str, who: Labeller, truth: Truth, classes: Sequence[str]) -> int:
        chance, count = random.Random(who.name), 0
        address, body = f"/p/{pipeline}", dict[str, Any]()
        with open_client(self.url, START_SECONDS, self.tokens[who.name]) as http:
            http.headers["accept"] = "application/json"
            while True:
                answer = http.post(address, json=body) if body else http.get(address)
                if answer.status_code == _TOO_MANY:
                    time.sleep(float(answer.headers["retry-after"]))
                    continue
                count += bool(body)
                questions = answer.raise_for_status().json()["questions"]
                if not questions:
                    return count
                right = truth(questions[0]["inputs"])
                label = who.says(right, classes, chance)
                body = {"question": questions[0]["question"], "label": label}


@contextmanager
def label_page(
    people: Sequence[Labeller], pipeline: str, environment: Mapping[str, str], log: Path
) -> Iterator[LabelPage]:
    """Run `slipway labels serve`, with a token for each labeller of a pipeline.

    Raises:
        ServiceUnavailableError: If the page does not start.
    """
    rights = ("--right", "label", "--pipeline", pipeline)
    tokens = {
        one.name: _slipway(environment, "token", "add", one.name, *rights).strip() for one in people
    }
    port = free_port()
    command = [*_PROGRAM, "labels", "serve", "--port", str(port)]
    with log.open("ab") as output:
        served = subprocess.Popen(
            command, env=dict(environment), cwd=CODE_FOLDER, stdout=output, stderr=output
        )
    try:
        page = LabelPage(f"http://127.0.0.1:{port}", tokens)
        _await(page.url, served, log)
        yield page
    finally:
        served.terminate()
        try:
            served.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            served.kill()


_PROGRAM = (sys.executable, "-m", "cli.main")


def _slipway(environment: Mapping[str, str], *words: str) -> str:
    done = subprocess.run(
        [*_PROGRAM, *words],
        env=dict(environment),
        cwd=CODE_FOLDER,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def _await(url: str, served: "subprocess.Popen[bytes]", log: Path) -> None:
    import httpx

    until = time.monotonic() + START_SECONDS
    while served.poll() is None and time.monotonic() < until:
        try:
            with open_client(url) as http:
                http.get("/healthz").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(_POLL_SECONDS)
    raise ServiceUnavailableError(f"the label page at {url} does not answer; its log: {log}")
