"""The page: who is let in, what they see and may send, and what is refused in words."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from contract.tokens import bearer, token_digest
from serving.labels.page.limits import Limit
from serving.labels.page.visitors import COOKIE
from serving.labels.store.answering import answers
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.questions import add_questions
from serving.labels.store.records import NewQuestion, Topic

NOW = 1_796_000_000.0
JSON = {"accept": "application/json"}


def fields(html: str) -> dict[str, str]:
    """Return the question and the mark of the form that is shown."""
    return {
        name: re.search(rf'name="{name}" value="([^"]+)"', html)[1]  # type: ignore[index]
        for name in ("question", "mark")
    }


def said(page: Any) -> list[tuple[str, str | None]]:
    found = answers(page.asking.database, page.asking.topic)
    return [(one.labeller, one.label) for one in found]


def test_the_best_guesses_are_large_and_the_next_question_is_there_hidden(page: Any) -> None:
    html = page.browser("ada").get("/p/colours").text
    first, second = html.split('<section class="card"')[1:]
    assert re.findall(r'class="large" name="label" value="(\w+)"', first) == ["green", "blue"]
    assert re.findall(r'data-key="(\w|\?)"', first) == ["2", "3", "1", "?"]
    assert "hidden" in second.partition(">")[0] and "hidden" not in first.partition(">")[0]


def test_an_answer_leads_to_the_next_question(page: Any) -> None:
    browser = page.browser("ada")
    sent = fields(browser.get("/p/colours").text)
    done = browser.post("/p/colours", data={**sent, "label": "blue"})
    assert (done.status_code, done.headers["location"]) == (303, "/p/colours?head=colour")
    part = browser.post(
        "/p/colours",
        data={**fields(browser.get("/p/colours").text), "do": "unsure"},
        headers={"hx-request": "true"},
    )
    assert part.text.lstrip().startswith('<div id="work">')
    assert "<strong>12</strong> points" in part.text
    assert sorted(said(page), key=str) == [("ada", "blue"), ("ada", None)]


def test_without_a_token_there_is_a_form_and_nothing_else(page: Any) -> None:
    stranger = page.browser()
    for path in ("/", "/p/colours", "/p/colours/leaders"):
        shown = stranger.get(path)
        assert shown.status_code == 401
        assert "shade" not in shown.text and 'action="/login"' in shown.text
    assert stranger.post("/p/colours", data={"question": "1", "label": "red"}).status_code == 401
    wrong = stranger.post("/login", data={"token": "guessed"})
    assert (wrong.status_code, "This token is wrong, or was removed" in wrong.text) == (401, True)


def test_a_token_of_another_role_may_not_label(page: Any) -> None:
    refused = page.browser().get("/p/colours", headers={**bearer("token-watcher"), **JSON})
    assert refused.status_code == 403
    assert refused.json()["error"] == "Token 'watcher' may not label: it has read, approve."


def test_a_token_that_opens_no_page_is_not_let_in(page: Any) -> None:
    refused = page.browser().post("/login", data={"token": "token-planner"})
    words = "Token &#39;planner&#39; may not label or review or read: it has propose."
    assert (refused.status_code, words in refused.text) == (403, True)


def test_a_token_of_another_pipeline_may_not_label_this_one(page: Any) -> None:
    page.write_tokens(pipeline="digits", ada=("label",))
    refused = page.browser("ada").get("/p/colours")
    assert (refused.status_code, refused.text) == (403, "Token 'ada' may label digits only.")


def test_a_token_that_was_removed_is_out_at_once(page: Any) -> None:
    browser = page.browser("ada")
    assert browser.get("/p/colours").status_code == 200
    page.write_tokens(bob=("label",))
    assert browser.get("/p/colours").status_code == 401


def test_forms_of_other_sites_are_refused(page: Any) -> None:
    browser = page.browser("ada")
    sent = fields(browser.get("/p/colours").text) | {"label": "red"}
    other = page.browser("bob").get("/p/colours").text
    for forged, headers in (
        ({**sent, "mark": ""}, {}),
        ({**sent, "mark": fields(other)["mark"]}, {}),
        (sent, {"origin": "http://evil"}),
    ):
        refused = browser.post("/p/colours", data=forged, headers=headers)
        assert (refused.status_code, "load the page again" in refused.text) == (403, True)
    assert said(page) == []
    evil = browser.post("/login", data={"token": "token-bob"}, headers={"origin": "http://evil"})
    assert (evil.status_code, "set-cookie" in evil.headers) == (403, False)
    assert browser.post("/p/colours", data=sent, headers={"origin": "http://labels"}).is_redirect


def test_the_cookie_is_for_this_site_and_no_script(page: Any) -> None:
    done = page.browser(is_secure=True).post("/login", data={"token": "token-ada"})
    cookie = done.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "secure"} <= {*cookie.split("; ")}


def test_the_cookie_is_not_the_token_and_nobody_else_can_make_it(page: Any) -> None:
    browser = page.browser("ada")
    (cookie,) = browser.cookies.values()
    assert "token-ada" not in cookie and token_digest("token-ada") in cookie
    theirs = cookie.replace(token_digest("token-ada"), token_digest("token-bob"))
    mark = fields(browser.get("/p/colours").text)["mark"]
    digest = token_digest("token-ada")
    for forged in (theirs, "token-ada", digest, f'"{digest}|{mark}"', "\xe9"):
        stranger = page.browser()
        refused = stranger.get("/p/colours", headers=[(b"cookie", f"{COOKIE}={forged}".encode())])
        assert refused.status_code == 401


def test_values_of_features_are_text_whatever_they_say(asking: Any, open_page: Any) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    topic = Topic("colours", evil, (evil, "b'c"), {})
    guesses = ((evil, 0.9),)
    add_questions(asking.database, topic, [NewQuestion("r", 0, {evil: evil}, guesses)], 1)
    page = open_page()
    page.write_tokens(ada=("label",))
    browser = page.browser("ada")
    shown = browser.get("/p/colours")
    assert "<script>alert" not in shown.text and "<img" not in shown.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.text
    policy = shown.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy
    sent = fields(shown.text)
    refused = browser.post(
        "/p/colours", data={**sent, "label": "<b>"}, headers={"hx-request": "true"}
    )
    assert refused.status_code == 422
    assert refused.headers["content-type"].startswith("text/plain")
    assert refused.headers["hx-retarget"] == "#message"


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("question=1", "application/x-www-form-urlencoded", "expected 'question', the number"),
        ("question=x&label=red", "application/x-www-form-urlencoded", "expected 'question'"),
        ("do=drop&question=1", "application/x-www-form-urlencoded", "unsure, skip, undo; found do"),
        ("[1]", "application/json", "expected a form or a JSON object: expected an object"),
        ("{", "application/json", "expected a form or a JSON object"),
        ('{"question": 1, "label": "\\ud800"}', "application/json", "surrogates not allowed"),
        ('{"\\ud800": 1}', "application/json", "surrogates not allowed"),
        ("a=" + "x" * 20_000, "application/x-www-form-urlencoded", "at most 16,384 bytes"),
    ],
)
def test_what_is_no_reply_is_refused(page: Any, body: str, kind: str, words: str) -> None:
    headers = {**bearer("token-ada"), **JSON, "content-type": kind}
    refused = page.browser().post("/p/colours", content=body, headers=headers)
    assert (refused.status_code, words in refused.json()["error"]) == (422, True)


def test_an_undo_needs_no_question_whatever_stands_in_its_place(page: Any) -> None:
    headers = {**bearer("token-ada"), **JSON}
    for question in ("\0", "x", "9" * 30, ""):
        sent = {"do": "undo", "question": question}
        refused = page.browser().post("/p/colours", data=sent, headers=headers)
        assert (refused.status_code, "no answer of the last" in refused.text) == (404, True)


def test_a_name_that_no_pipeline_can_have_is_not_found_and_cut(page: Any) -> None:
    headers = {**bearer("token-ada"), **JSON}
    for name in ("a%00b", "x" * 5000):
        found = page.browser().get(f"/p/{name}?head={'y' * 5000}", headers=headers)
        assert (found.status_code, len(found.text) < 1000) == (404, True)


def test_a_token_that_is_no_text_is_refused_at_the_door(page: Any) -> None:
    headers = {**JSON, "content-type": "application/json"}
    refused = page.browser().post("/login", content='{"token": "\\ud800"}', headers=headers)
    assert (refused.status_code, "surrogates not allowed" in refused.json()["error"]) == (422, True)


def test_nothing_on_the_page_tells_gold_from_other_questions(asking: Any, open_page: Any) -> None:
    asking.add("plain", people=1)
    asking.add("gold", gold="red")
    page = open_page()
    browser, headers = page.browser(), {**bearer("token-ada"), **JSON}
    seen = [browser.get("/p/colours", headers=headers).json()]
    html = page.browser("ada")
    words = [standing_words(html)]
    for _ in range(2):
        sent = {"question": seen[-1]["questions"][0]["question"], "label": "red"}
        seen.append(browser.post("/p/colours", json=sent, headers=headers).json())
        words.append(standing_words(html))
    assert [one["standing"] for one in seen] == [
        {"name": "ada", "points": 10 * n, "streak": n, "answers": n} for n in range(3)
    ]
    assert words == [f"{10 * n} points {n} in a row {n} answers Leader board" for n in range(3)]


def standing_words(browser: TestClient) -> str:
    header = browser.get("/p/colours").text.partition("</h1>")[2].partition("</header>")[0]
    return " ".join(re.sub("<[^>]*>", " ", header).split())


def test_a_program_labels_by_json(page: Any) -> None:
    browser, headers = page.browser(), {**bearer("token-ada"), **JSON}
    found = browser.get("/p/colours", headers=headers).json()
    first = found["questions"][0]
    assert first["guesses"][0] == ["green", 0.5]
    sent = {"question": first["question"], "label": "green"}
    after = browser.post("/p/colours", json=sent, headers=headers).json()
    assert after["questions"][0] == found["questions"][1]
    assert after["standing"]["points"] == 10
    skipped = {"question": after["questions"][0]["question"], "do": "skip"}
    assert browser.post("/p/colours", json=skipped, headers=headers).status_code == 200
    undone = browser.post("/p/colours", json={"do": "undo"}, headers=headers).json()
    assert undone["questions"][0]["question"] == first["question"]
    lost = browser.post("/p/colours", json={"do": "undo"}, headers=headers)
    assert (lost.status_code, "take back" in lost.json()["error"]) == (404, True)


def test_a_flood_of_one_token_is_refused_and_others_are_not(page: Any) -> None:
    browser = page.browser(per_token=Limit(per_second=0.001, burst=3))
    statuses = [
        browser.get("/p/colours", headers=bearer("token-ada")).status_code for _ in range(5)
    ]
    assert statuses == [200, 200, 200, 429, 429]
    flooded = browser.get("/p/colours", headers=bearer("token-ada"))
    assert int(flooded.headers["retry-after"]) > 100
    assert browser.get("/p/colours", headers=bearer("token-bob")).status_code == 200


def test_guessing_tokens_is_slowed_down(page: Any) -> None:
    browser = page.browser(per_address=Limit(per_second=0.001, burst=2))
    statuses = [browser.post("/login", data={"token": f"{n}"}).status_code for n in range(3)]
    assert statuses == [401, 401, 429]
    assert browser.get("/", headers=bearer("guessed")).status_code == 429
    assert browser.get("/", headers=bearer("token-planner")).status_code == 429


def test_a_right_token_waits_for_nobody_at_the_same_address(page: Any) -> None:
    browser = page.browser(per_address=Limit(per_second=0.001, burst=2))
    assert {browser.get("/").status_code for _ in range(5)} == {401}  # without a token: the form
    assert browser.post("/login", data={"token": ""}).status_code == 401
    statuses = [browser.post("/login", data={"token": f"{n}"}).status_code for n in range(3)]
    assert statuses == [401, 401, 429]
    assert browser.get("/p/colours", headers=bearer("token-bob")).status_code == 200
    assert browser.post("/login", data={"token": "token-ada"}).is_redirect


def test_a_locked_database_is_told_on_the_page_and_the_answer_can_be_sent_again(
    page: Any, tmp_path: Path
) -> None:
    database = Database(sqlite_url(tmp_path / "labels.db"), patience_seconds=0)
    browser = page.browser("ada", database=database)
    sent = {**fields(browser.get("/p/colours").text), "label": "red"}
    other = sqlite3.connect(tmp_path / "labels.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = browser.post("/p/colours", data=sent, headers={"hx-request": "true"})
    assert (refused.status_code, "nothing was changed, try again" in refused.text) == (503, True)
    other.execute("ROLLBACK")
    other.close()
    assert browser.post("/p/colours", data=sent).is_redirect
    assert said(page) == [("ada", "red")]


def test_one_pipeline_is_opened_at_once_and_several_are_listed(page: Any) -> None:
    browser = page.browser("ada")
    assert browser.get("/").headers["location"] == "/p/colours?head=colour"
    add_questions(page.asking.database, Topic("shapes", "shape", ("a", "b"), {}), [], 1)
    assert 'href="/p/shapes?head=shape"' in browser.get("/").text
    unknown = browser.get("/p/digits")
    assert (unknown.status_code, "no questions about digits" in unknown.text) == (404, True)


def test_the_leader_board_names_points_and_marks_who_looks(page: Any) -> None:
    browser = page.browser("ada")
    sent = fields(browser.get("/p/colours").text)
    browser.post("/p/colours", data={**sent, "label": "red"})
    html = browser.get("/p/colours/leaders").text
    assert re.search(r'class="own" aria-current="true"><td>1</td><th scope="row">ada</th>', html)


def test_logging_out_forgets_the_token(page: Any) -> None:
    browser = page.browser("ada")
    add_questions(page.asking.database, Topic("shapes", "shape", ("a", "b"), {}), [], 1)
    mark = re.search(r'name="mark" value="([^"]+)"', browser.get("/").text)[1]  # type: ignore[index]
    assert browser.post("/logout", data={"mark": "x"}).status_code == 403
    assert browser.post("/logout", data={"mark": mark}).is_redirect
    assert browser.get("/").status_code == 401


def test_what_browsers_load_is_ours(page: Any) -> None:
    html = page.browser().get("/").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert sorted(loaded) == ["/static/htmx.min.js", "/static/label.css", "/static/label.js"]
    assert all(page.browser().get(path).status_code == 200 for path in loaded)


def test_nobody_shows_the_pages_in_a_frame_but_who_is_named(page: Any) -> None:
    policy = page.browser().get("/").headers["content-security-policy"]
    assert policy.endswith("; frame-ancestors 'none'")
    framed = page.browser(framed_by="http://airflow:8080").get("/")
    policy = framed.headers["content-security-policy"]
    assert policy.endswith("; frame-ancestors http://airflow:8080")
