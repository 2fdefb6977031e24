"""Damaged requests to what people and controllers call: the label page and the judge."""

import http.client
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_from_bytes, urlencode

from bench_envoy import PIPELINE
from fuzz_http import Make, damaged, http1
from postgres import running_postgres

from contract.free_ports import free_port
from contract.places import CODE_FOLDER
from contract.records.access import AgentToken, AgentTokens, Right
from contract.tokens import token_digest
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.questions import add_questions
from serving.labels.store.records import NewQuestion, Topic
from serving.supervisord.configuration import Program

PEOPLE = 200  # each may ask 5 times a second
_QUESTIONS = 5_000
_COLOURS = Topic("colours", "colour", ("red", "green"), {"shade": {"shape": []}})
_RIGHTS: tuple[tuple[Right, ...], ...] = (("label",), ("review",), ("read",), ("propose",))
_JUDGE_TOKEN = "judges"
_VALUES = (
    *("null", "true", "-1", "1e999", "NaN", "9" * 400, '"\\ud800"', '"\\u0000"', '""', "[]", "{}"),
    *('"sum(rate(x[1m]))"', '{"+Inf": 1}', '{"10": 5, "+Inf": 4}', '{"\\ud800": 1}', '{"": 1}'),
    *('{"1": -1, "+Inf": 2}', '"{\\"5\\": 1, \\"+Inf\\": 2}"', "[" * 900 + "]" * 900, '"٣"'),
)
_QUESTION_VALUES = ("0", "-1", "1e3", "٣", "9" * 9, "9" * 30, "\0", "", "1\n")
_LABELS = ("red", "green", "blue", "", "\0", "\ud7ff", "é" * 300, "red\0", "<script>")
_ODD = ("%00", "%ff", "%ed%a0%80", "a%00b", "x" * 300, "..%2f..", "'", "%22")
_JUDGE_PATHS = (
    "/argo/measurement",
    *(f"/flagger/confirm-{hook}" for hook in ("rollout", "traffic-increase", "promotion")),
    *("/flagger/rollback", "/flagger/%00", "/healthz", "/flagger/", "/openapi.json"),
)


def judge_body(chance: random.Random) -> bytes:
    """Return a question to the judge with values that do not fit, as either controller asks it."""
    asked = {
        f"{arm}_{name}": str(chance.randrange(2000))
        for arm in ("canary", "stable")
        for name in ("requests", "errors", "client_errors", "active")
    }
    for arm in ("canary", "stable"):
        asked[f"{arm}_latency_buckets"] = '{"10": 5, "50.5": 90, "+Inf": 100}'
    asked |= {"rollout": f'"{chance.randrange(50)}"', "step": "1", "latency_unit": '"seconds"'}
    for name in chance.sample([*asked], chance.choice((0, 1, 1, 2, 5))):
        asked[name] = chance.choice(_VALUES)
    for name in chance.sample([*asked], chance.choice((0, 0, 0, 1))):
        del asked[name]
    flat = "{" + ", ".join(f'"{name}": {value}' for name, value in asked.items()) + "}"
    name = chance.choice(('"shop"', *_VALUES)) if chance.random() < 0.2 else '"shop"'
    hook = f'{{"name": {name}, "namespace": "web", "checksum": "1", "metadata": {flat}}}'
    whole = chance.choice((flat, hook, hook))
    return damaged(whole.encode(), chance) if chance.random() < 0.2 else whole.encode()


@dataclass(frozen=True)
class Judge:
    """`slipway judge serve`."""

    folder: Path
    port: int = field(default_factory=free_port)

    def program(self, logs: Path) -> Program:
        """Return what supervisord keeps."""
        token = self.folder / "judge.token"
        token.write_text(f"{_JUDGE_TOKEN}\n")
        flags = (f"--token-file={token}", f"--state={self.folder / 'judge'}", f"--port={self.port}")
        return _slipway("judge", ("judge", "serve", *flags), self.folder, logs)

    @property
    def make(self) -> Make:
        """What makes requests to it."""
        return http1(_JUDGE_PATHS, _JUDGE_TOKEN, judge_body)


@dataclass(frozen=True)
class Browser:
    """Somebody who has logged in, or a program with a token."""

    headers: tuple[str, ...]
    mark: str = ""


@dataclass(frozen=True)
class LabelPage:
    """`slipway labels serve` over a database with questions."""

    folder: Path
    database: str
    port: int = field(default_factory=free_port)

    def program(self, logs: Path) -> Program:
        """Add questions and people; return what supervisord keeps."""
        store = Database(self.database)
        guesses = (("red", 0.6), ("green", 0.4))
        asked = (NewQuestion(str(n), 0, {"shade": "a"}, guesses) for n in range(_QUESTIONS))
        add_questions(store, _COLOURS, asked, people=2)
        store.close()
        made = tuple(_token(number) for number in range(PEOPLE))
        AgentTokens(tokens=made).write(self.folder / "tokens.json")
        flags = (
            f"--database={self.database}",
            f"--tokens={self.folder / 'tokens.json'}",
            f"--port={self.port}",
        )
        return _slipway("labels", ("labels", "serve", *flags), self.folder, logs)

    def make(self) -> Make:
        """Log half of the people in; return what makes requests of all of them."""
        programs = [Browser((f"authorization: Bearer token-{n}",)) for n in range(1, PEOPLE, 2)]
        browsers = [found for n in range(0, PEOPLE, 2) if (found := self._logged_in(n))]
        people = [*programs, *browsers]

        def one(chance: random.Random) -> bytes:
            who = chance.choice(people)
            headers = tuple(
                damaged(line.encode(), chance).decode("latin-1") if chance.random() < 0.05 else line
                for line in (*who.headers, *_kind(chance))
            )
            usual = chance.choice(("POST", "GET"))
            paths = (f"/p/{_COLOURS.pipeline}", *_paths(chance))
            return http1(paths, "", lambda by: reply_body(by, who.mark, headers), usual, headers)(
                chance
            )

        return one

    def _logged_in(self, number: int) -> Browser | None:
        """Return the browser of a token; None for one that opens no page."""
        form = {"content-type": "application/x-www-form-urlencoded"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/login", f"token=token-{number}", form)
        answer = connection.getresponse()
        cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        answer.read()
        if not cookie:
            return None
        mark = ""
        for shown in ("/", f"/p/{_COLOURS.pipeline}", f"/review/{_COLOURS.pipeline}"):
            connection.request("GET", shown, headers={"cookie": cookie})
            found = re.search(r'name="mark" value="([0-9a-f]+)"', _text(connection))
            mark = mark or (found[1] if found else "")
        connection.close()
        return Browser((f"cookie: {cookie}",), mark)


def _text(connection: http.client.HTTPConnection) -> str:
    return connection.getresponse().read().decode()


def _kind(chance: random.Random) -> Iterator[str]:
    """Yield headers by which a browser, its script and a program differ."""
    if chance.random() < 0.3:
        yield "accept: application/json"
    if chance.random() < 0.3:
        yield "hx-request: true"
    yield chance.choice(
        ("content-type: application/json", "content-type: application/x-www-form-urlencoded")
    )


def _paths(chance: random.Random) -> Iterator[str]:
    odd, pipeline = chance.choice(_ODD), chance.choice((_COLOURS.pipeline, PIPELINE))
    yield from (f"/p/{pipeline}?head=colour", f"/p/{pipeline}?head={odd}", f"/p/{odd}")
    yield from (f"/p/{pipeline}/leaders", f"/review/{pipeline}", f"/review/{odd}?head={odd}")
    yield f"/review/{pipeline}?after={chance.choice((*_QUESTION_VALUES[:-3], odd))}".replace(
        "٣", "%D9%A3"
    )
    yield f"/stream/{pipeline}/rows?version={odd}&below={chance.choice(('nan', '-1', odd))}"
    yield from (f"/stream/{pipeline}?class={odd}&arm={odd}", f"/stream/{odd}/rows", "/", "/login")
    yield from (f"/stream/{pipeline}/traffic", "/logout", f"/static/{odd}", "/static/../app.py")


def reply_body(chance: random.Random, mark: str, headers: tuple[str, ...]) -> bytes:
    """Return a form, or an object, with a value that does not fit."""
    sent = {"question": str(chance.randrange(1, _QUESTIONS)), "label": chance.choice(_LABELS)}
    if chance.random() < 0.5:
        sent["do"] = chance.choice(("answer", "unsure", "skip", "undo", "other", "\0"))
    if chance.random() < 0.3:
        sent["question"] = chance.choice(_QUESTION_VALUES)
    if chance.random() < 0.9:
        sent["mark"] = mark
    if chance.random() < 0.1:
        sent["token"] = chance.choice((f"token-{chance.randrange(PEOPLE)}", "\0", "é"))
    if "content-type: application/json" in headers:
        whole = json.dumps(sent).encode()
        if chance.random() < 0.2:
            whole = whole.replace(b'"label": "', b'"label": "\\ud800')
    else:
        odd = quote_from_bytes(chance.randbytes(3)) if chance.random() < 0.1 else ""
        whole = urlencode(sent).encode() + odd.encode()
    return damaged(whole, chance) if chance.random() < 0.2 else whole


def _token(number: int) -> AgentToken:
    """Return what is kept of a token: most may label, others review, read, or none of these."""
    return AgentToken(
        name=f"person-{number}",
        digest=token_digest(f"token-{number}"),
        rights=_RIGHTS[number % 8] if number % 8 < len(_RIGHTS) else ("label",),
        pipelines=("*",) if number % 5 else (_COLOURS.pipeline,),
        created_at=datetime(2026, 11, 30, tzinfo=UTC),
    )


def _slipway(name: str, words: tuple[str, ...], folder: Path, logs: Path) -> Program:
    command = (sys.executable, "-m", "slipway", *words)
    environment = {"SLIPWAY_HOME": str(folder)}
    log = logs / f"{name}.log"
    return Program(name, command, log, environment=environment, directory=CODE_FOLDER)


@contextmanager
def label_database(folder: Path, is_postgres: bool) -> Iterator[str]:
    """Yield the URL of an empty database."""
    if not is_postgres:
        yield sqlite_url(folder / "labels.db")
        return
    with running_postgres() as server:
        yield server.url


def until_healthy(port: int, seconds: float) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
