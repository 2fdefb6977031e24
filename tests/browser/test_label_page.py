"""People label digits in a real browser: by keyboard, on a phone, two at once."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from browser.accessibility import violations
from browser.chromium import PATIENCE_SECONDS, Tab, open_browser, open_tab
from live_log import LiveLog
from playwright.sync_api import Browser
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from cli.main import app
from cli.stack.stack_file import artifact_root
from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.loader import state_folder
from contract.places import CODE_FOLDER
from serving.labels.store.answering import answer, answers
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.questions import add_questions, next_questions, topic_id
from serving.labels.store.records import NewQuestion, Topic
from serving.labels.store.reviewing import decided

EVIL = "<img src=x onerror='window.wasRun = 1'><script>window.wasRun = 1</script>"
DIGITS = tuple("0123456789")
CARD = "document.querySelector('#work .card:not([hidden])')"
IS_READY = f"{CARD} && !{CARD}.querySelector('button').disabled"


@pytest.fixture
def database() -> Database:
    """Thirty digits, of which the model always says 3 or 8 first; two people are wanted."""
    data, found = load_digits(), Database(sqlite_url(state_folder() / "labels.db"))
    topic = Topic("digits", "digit", DIGITS, {"image": {"shape": [8, 8]}})
    guesses = (("3", 0.5), ("8", 0.4), ("0", 0.1))
    questions = [
        NewQuestion(f"r{n}", int(data.target[n]), {"image": data.images[n].tolist()}, guesses)
        for n in range(30)
    ]
    add_questions(found, topic, questions, people=2)
    return found


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    """The page, served by the command; it is there as soon as it answers."""
    port = free_port()
    command = [sys.executable, "-m", "cli.main", "labels", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=CODE_FOLDER) as process:
        try:
            transport = httpx.HTTPTransport(retries=9)
            with httpx.Client(transport=transport, timeout=PATIENCE_SECONDS) as http:
                while process.poll() is None:
                    try:
                        assert http.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
                        break
                    except httpx.ConnectError:
                        continue
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[Callable[[], Tab]]:
    yield lambda: open_tab(browser)
    for context in browser.contexts:
        context.close()


def logged_in(tab: Tab, address: str, who: str, right: str = "label") -> Tab:
    """Log in as a person reads and types, with a token that the command has made."""
    made = CliRunner().invoke(app, ["token", "add", who, "--right", right])
    log_in(tab, address, made.stdout.strip())
    tab.until(IS_READY)
    tab.until("document.activeElement.tagName == 'H2'")  # where a screen reader reads on
    return tab


def log_in(tab: Tab, address: str, token: str) -> None:
    tab.page.goto(f"{address}/")
    tab.page.fill("#token", token)
    tab.page.click("form button")


def shown(tab: Tab) -> str:
    return str(tab.run(f"{CARD}.querySelector('input[name=question]')?.value ?? ''"))


def press(tab: Tab, key: str) -> None:
    """Press a key, and wait until another question is shown that can be answered."""
    before = shown(tab)
    tab.page.keyboard.press(key)
    tab.until(f"{IS_READY} && {CARD}.querySelector('input[name=question]')?.value != '{before}'")


def test_two_people_label_by_keyboard_undo_and_use_a_phone(
    database: Database, address: str, new_tab: Callable[[], Tab]
) -> None:
    topic, _ = topic_id(database, "digits")
    with database.reading() as connection:
        rows = connection.exec_driver_sql('SELECT id, "row" FROM question').all()
    truth = {str(number): str(row) for number, row in rows}
    ada, bob = (logged_in(new_tab(), address, who) for who in ("ada", "bob"))
    assert violations(ada) == []
    for _ in range(20):
        press(ada, truth[shown(ada)])
    first = shown(bob)
    press(bob, "ArrowLeft")
    press(bob, "Backspace")
    assert shown(bob) == first
    press(bob, "ArrowRight")
    press(bob, "?")
    press(bob, "ArrowDown")
    said = [(one.labeller, one.label, str(one.row)) for one in answers(database, topic)]
    assert sorted(label == row for who, label, row in said if who == "ada") == [True] * 20
    assert sorted(str(label) for who, label, _ in said if who == "bob") == ["8", "None"]
    assert "20 in a row" in ada.run("document.querySelector('.standing').innerText")
    before = shown(ada)
    for place, words in (
        ("/p/digits", "expected 'question', the"),
        ("/static/none", "failed (405)"),
    ):
        where = f"source: {CARD}.querySelector('form'), target: '#work', swap: 'outerHTML'"
        ada.run(f"htmx.ajax('POST', '{place}', {{{where}, values: {{do: 'x'}}}}).catch(() => 0)")
        ada.until(f"{IS_READY} && document.getElementById('message').innerText.includes({words!r})")
        assert shown(ada) == before  # neither our words nor others' take the question's place
    phone = {"width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    bob.page.context.new_cdp_session(bob.page).send("Emulation.setDeviceMetricsOverride", phone)
    assert bob.run("document.documentElement.scrollWidth") == 360
    heights = f"[...{CARD}.querySelectorAll('button')].map(b => b.offsetHeight)"
    assert bob.run(f"Math.min(...{heights})") >= 44
    assert bob.run(f"{CARD}.querySelector('img').naturalWidth") == 8
    assert [len(tab.problems) for tab in (ada, bob)] == [3, 1], ada.problems + bob.problems
    assert "401" in ada.problems[0]  # before they were logged in
    assert "422" in ada.problems[1] and "405" in ada.problems[2]


def test_a_reviewer_decides_by_keyboard(
    database: Database, address: str, new_tab: Callable[[], Tab]
) -> None:
    topic, _ = topic_id(database, "digits")
    for who, label in (("ada", "3"), ("bob", "8")):
        for asked in next_questions(database, topic, who, time.time(), 3):
            answer(database, asked.question, who, label, time.time())
    rita = logged_in(new_tab(), address, "rita", "review")
    first, words = shown(rita), "document.querySelector('.standing').innerText"
    assert "3 to decide" in rita.run(words)
    people = rita.run(f"[...{CARD}.querySelectorAll('tbody th')].map(e => e.innerText).join()")
    assert "ada" not in people and len(people.split(",")) == 2
    assert violations(rita) == []
    press(rita, "ArrowLeft")
    press(rita, "ArrowDown")
    press(rita, "5")
    press(rita, "Backspace")
    last = shown(rita)
    press(rita, "?")
    found = decided(database, topic)
    assert {*map(str, found)} == {first, last} and found[int(last)].label is None
    assert {one.author for one in found.values()} == {"rita"}
    assert found[int(first)].label in ("3", "8")
    assert len(rita.problems) == 1, rita.problems  # before she was logged in


def test_the_stream_shows_what_is_predicted_and_no_value_is_a_program(
    database: Database, address: str, new_tab: Callable[[], Tab]
) -> None:
    layout = PipelineLayout(artifact_root(), "digits")
    stable, shadow = LiveLog(layout, 1), LiveLog(layout, 2, "shadow")
    stable.package()
    stable.write({"id": "old", "label": 7})
    tab = new_tab()
    tab.page.set_viewport_size({"width": 1000, "height": 900})
    made = CliRunner().invoke(app, ["token", "add", "watcher", "--right", "read"])
    log_in(tab, address, made.stdout.strip())
    rows = "[...document.querySelectorAll('#rows tbody tr')].map(e => e.innerText.trim())"
    tab.until(f"{rows}.length == 1")
    digits = load_digits().images
    stable.write(
        *(
            {"id": f"a{n}", "label": n, "score": n / 10, "image": digits[n].tolist()}
            for n in range(10)
        ),
        {"id": "evil", "note": EVIL},
    )
    shadow.write(*({"id": f"a{n}", "label": min(n, 8), "score": 0.9} for n in range(10)))
    twins = "[...document.querySelectorAll('#twins tbody tr')].map(e => e.innerText.trim())"
    tab.until(f"{rows}.length == 22 && {twins}.length == 10")
    assert tab.run(f"{twins}.filter(words => words.endsWith('differs')).length") == 1
    assert tab.run("document.querySelector('#twins img').naturalWidth") == 8
    assert EVIL in tab.run(f"{rows}.join()") and tab.run("window.wasRun === undefined")
    assert tab.run("document.querySelectorAll('#rows script, #rows [onerror]').length") == 0
    assert "No services are running here" in tab.run("document.getElementById('traffic').innerText")
    assert violations(tab) == []
    tab.page.keyboard.press("p")
    stable.write({"id": "later"})
    assert tab.run("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    tab.page.goto(f"{address}/stream/digits?class=9&below=0.95")
    tab.until(f"{rows}.length == 1")  # and not the shadow's 8, nor any other
    assert len(tab.problems) == 1, tab.problems  # before the watcher was logged in


def test_axe_finds_what_keeps_people_from_using_a_page(new_tab: Callable[[], Tab]) -> None:
    tab = new_tab()
    tab.run("document.body.innerHTML = '<input><p style=color:#aaa;background:#fff>pale</p>'")
    found = violations(tab)
    assert {one.partition(": ")[2].partition(":")[0] for one in found} >= {
        "color-contrast",
        "label",
    }


def test_a_picture_that_cannot_be_decoded_is_told_in_words(
    database: Database, address: str, new_tab: Callable[[], Tab]
) -> None:
    pictures = (b"\x89PNG\r\n\x1a\n" + b"cut off", b"\xff\xd8\xff\xe0 no JPEG")
    rows = [
        NewQuestion(f"p{n}", 0, {"photo": {"base64": base64.b64encode(picture).decode()}})
        for n, picture in enumerate(pictures)
    ]
    add_questions(database, Topic("photos", "kind", ("cat", "dog"), {"photo": {}}), rows, people=1)
    made = CliRunner().invoke(app, ["token", "add", "ada", "--right", "label"])
    tab = new_tab()
    log_in(tab, address, made.stdout.strip())
    tab.until("location.pathname == '/' && document.querySelector('a[href*=photos]')")
    tab.page.goto(f"{address}/p/photos")
    for words in ("photo: picture, ", ": cannot be decoded. Skip it, or say that you can't tell."):
        tab.until(f"{CARD}.innerText.includes({json.dumps(words)})")
    press(tab, "ArrowDown")
    tab.until(f"{CARD}.innerText.includes('cannot be decoded')")
    assert tab.run("document.images.length") == 0
