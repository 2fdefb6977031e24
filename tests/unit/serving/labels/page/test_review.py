"""A reviewer decides where people disagree; nobody else sees who said what."""

import re
from typing import Any

import pytest

from cli.labels.reviewing import by_consensus
from contract.errors import ConflictError, DataError, NotFoundError
from contract.tokens import bearer
from serving.labels.page.conflicts import Opinion, by_votes, conflicts
from serving.labels.store.answering import answer, answers
from serving.labels.store.questions import add_questions, next_questions
from serving.labels.store.records import Answered, NewQuestion, Topic
from serving.labels.store.reviewing import decide, decided, disputed, take_back

NOW = 1_796_000_000.0
JSON = {"accept": "application/json"}


def answered(question: int, label: str | None, who: str = "ada", **more: Any) -> Answered:
    place = {"question": question, "request_id": f"r{question}", "row": 0, "labeller": who}
    chosen = {"version": 1, "probability": 0.5, "audit_probability": 0.0, "is_audit": False}
    rest = {"gold": None, "answered_at": 0.0, "is_closed": True}
    return Answered(**{**place, "label": label, **chosen, **rest, **more})


def say(asking: Any, **said: str) -> dict[str, int]:
    """Let people answer every question, each always the same; return the numbers of questions.

    A question whose name begins with 'all' is answered red by everybody.
    """
    numbers = {}
    for who, label in said.items():
        while found := next_questions(asking.database, asking.topic, who, NOW):
            name = str(found[0].inputs["shade"])
            numbers[name] = found[0].question
            told = "red" if name.startswith("all") else label
            answer(asking.database, found[0].question, who, told, NOW)
    return numbers


@pytest.fixture
def split(asking: Any, open_page: Any) -> Any:
    """Two questions about which ada and bob disagree, and one about which they do not."""
    asking.add("dark", "light", "all-agree")
    page = open_page()
    page.numbers = say(asking, ada="green", bob="blue")
    return page


def form(html: str, **more: str) -> dict[str, str]:
    found = {
        name: re.search(rf'name="{name}" value="([^"]+)"', html)[1]  # type: ignore[index]
        for name in ("question", "mark")
    }
    return {**found, **more}


def test_conflicts_are_the_contradicted_and_the_unsure_least_sure_first() -> None:
    said = [
        *(answered(1, label, who) for who, label in (("a", "x"), ("b", "x"), ("c", "y"))),
        *(answered(2, label, who) for who, label in (("a", "x"), ("b", "y"))),
        *(answered(3, "x", who) for who in "ab"),
        *(answered(4, None, who) for who in "ab"),
        *(answered(5, label, who, is_closed=False) for who, label in (("a", "x"), ("b", "y"))),
    ]
    assert conflicts(said, by_votes(said, ["x", "y"])).questions == (4, 2, 1)
    unsure = Opinion({1: ("x", 0.99), 2: ("x", 0.95), 3: ("x", 0.6)})
    assert conflicts(said, unsure).questions == (4, 3, 2, 1)


def test_who_is_mostly_wrong_makes_no_conflict_alone() -> None:
    said = [answered(1, "x", "ada"), answered(1, "x", "bob"), answered(1, "y", "liar")]
    sure = {1: ("x", 0.99)}
    assert conflicts(said, Opinion(sure, {"liar": 0.1})).questions == ()
    assert conflicts(said, Opinion(sure, {"liar": 0.6})).questions == (1,)
    assert conflicts(said, Opinion({1: ("x", 0.8)}, {"liar": 0.1})).questions == (1,)


def test_the_consensus_knows_who_errs() -> None:
    said = [
        answered(number, label if who == "liar" else "x", who)
        for number in range(40)
        for who, label in (("ada", "x"), ("bob", "x"), ("liar", "y"))
    ]
    said += [answered(99, "y", "ada"), answered(99, "y", "bob"), answered(99, "x", "liar")]
    found = by_consensus(said, ["x", "y"])
    assert found.labels[99][0] == "y" and found.labels[99][1] > 0.9
    assert found.right_ratios["ada"] > 0.9 > 0.1 > found.right_ratios["liar"]
    assert by_consensus([answered(1, None)], ["x", "y"]) == Opinion()


def test_a_reviewer_sees_who_said_what_by_pseudonym_and_decides(split: Any) -> None:
    browser = split.browser("rita")
    assert browser.get("/").headers["location"] == "/review/colours?head=colour"
    html = browser.get("/review/colours").text
    assert "<strong>2</strong> to decide" in html and "all-agree" not in html
    assert "ada" not in html and "bob" not in html
    people = re.findall(r'<tr><th scope="row">(\w{5})</th><td><strong>(\w+)</strong>', html)
    assert sorted(label for _, label in people) == ["blue", "green"]
    assert sorted(re.findall(r'class="large" name="label" value="(\w+)"', html)) == [
        "blue",
        "green",
    ]
    done = browser.post("/review/colours", data=form(html, label="red"))
    assert done.headers["location"].startswith("/review/colours?head=colour&after=")
    other = browser.get(done.headers["location"]).text
    assert "<strong>1</strong> to decide" in other
    assert form(other)["question"] != form(html)["question"]
    again = re.findall(r'<tr><th scope="row">(\w{5})</th><td><strong>(\w+)</strong>', other)
    assert {*again} == {*people}  # the same person has the same name
    (found,) = decided(split.asking.database, split.asking.topic).values()
    assert (found.label, found.author, found.decided_at) == ("red", "rita", NOW)
    assert found.question == int(form(html)["question"])


def test_later_leads_to_the_next_and_undo_back_to_the_last(split: Any) -> None:
    browser = split.browser("rita")
    first = form(browser.get("/review/colours").text)
    by_htmx = {"hx-request": "true"}
    later = browser.post("/review/colours", data={**first, "do": "skip"}, headers=by_htmx).text
    second = form(later)
    assert second["question"] != first["question"]
    turned = browser.post("/review/colours", data={**second, "do": "skip"}, headers=by_htmx).text
    assert form(turned) == first
    left = browser.post("/review/colours", data={**first, "do": "unsure"}, headers=by_htmx).text
    assert form(left) == second
    split.now += 1
    end = browser.post("/review/colours", data={**second, "label": "red"}, headers=by_htmx).text
    assert "Nothing to decide now" in end
    undone = browser.post("/review/colours", data={"mark": first["mark"], "do": "undo"})
    assert undone.headers["location"] == "/review/colours?head=colour"
    (kept,) = decided(split.asking.database, split.asking.topic).values()
    assert kept.label is None
    assert form(browser.get("/review/colours").text) == second


@pytest.mark.parametrize("who", ["ada", "watcher"])
def test_who_may_not_review_sees_and_decides_nothing(split: Any, who: str) -> None:
    headers = {**bearer(f"token-{who}"), **JSON}
    number = split.numbers["dark"]
    seen = split.browser().get("/review/colours", headers=headers)
    sent = split.browser().post(
        "/review/colours", json={"question": number, "label": "red"}, headers=headers
    )
    for refused in (seen, sent):
        assert refused.status_code == 403
        assert re.match(
            f"Token '{who}' may not (label or )?review: it has", refused.json()["error"]
        )
    assert decided(split.asking.database, split.asking.topic) == {}


def test_a_reviewer_may_not_label_and_reviews_own_pipelines_only(split: Any) -> None:
    refused = split.browser("rita").get("/p/colours")
    assert (refused.status_code, refused.text) == (
        403,
        "Token 'rita' may not label: it has review.",
    )
    split.write_tokens(pipeline="digits", rita=("review",))
    refused = split.browser("rita").get("/review/colours")
    assert (refused.status_code, refused.text) == (403, "Token 'rita' may review digits only.")


def test_a_forged_decision_is_refused(split: Any) -> None:
    browser = split.browser("rita")
    sent = form(browser.get("/review/colours").text, label="red")
    theirs = form(split.browser("rob").get("/review/colours").text)["mark"]
    for forged, headers in (
        ({**sent, "mark": ""}, {}),
        ({**sent, "mark": theirs}, {}),
        (sent, {"origin": "http://evil"}),
    ):
        refused = browser.post("/review/colours", data=forged, headers=headers)
        assert (refused.status_code, "load the page again" in refused.text) == (403, True)
    assert decided(split.asking.database, split.asking.topic) == {}


def test_two_reviewers_do_not_overwrite_each_other(split: Any) -> None:
    browser = split.browser()
    number = split.numbers["dark"]
    for who, label, status in (
        ("rita", "red", 200),
        ("rob", "red", 200),
        ("rob", "blue", 409),
        ("rob", "pink", 422),
    ):
        sent = {"question": number, "label": label}
        headers = {**bearer(f"token-{who}"), **JSON}
        assert browser.post("/review/colours", json=sent, headers=headers).status_code == status
    assert decided(split.asking.database, split.asking.topic)[number].author == "rita"


def test_what_cannot_be_decided_is_refused_in_words(split: Any) -> None:
    database, topic = split.asking.database, split.asking.topic
    split.asking.add("new")
    split.asking.add("gold", gold="red")
    say(split.asking, cy="red")  # the new one and the gold one
    rows = {one.request_id: one for one in answers(database, topic)}
    with pytest.raises(NotFoundError, match="question 99: there is nothing to decide"):
        decide(database, (topic, 99), "rita", "red", NOW)
    with pytest.raises(NotFoundError, match="there is nothing to decide"):
        decide(database, (topic, rows["gold"].question), "rita", "red", NOW)
    with pytest.raises(NotFoundError, match="there is nothing to decide"):
        disputed(database, topic + 1, rows["new"].question)
    with pytest.raises(DataError, match="expected one of red, green, blue, found 'pink'"):
        decide(database, (topic, rows["dark"].question), "rita", "pink", NOW)
    decide(database, (topic, rows["dark"].question), "rita", None, NOW)
    with pytest.raises(ConflictError, match="rita has decided that nobody can tell"):
        decide(database, (topic, rows["dark"].question), "rob", "red", NOW)
    with pytest.raises(NotFoundError, match="no decision of the last 10 minutes"):
        take_back(database, topic, "rob", NOW)
    with pytest.raises(NotFoundError, match="no decision of the last 10 minutes"):
        take_back(database, topic, "rita", NOW + 601)


def test_values_and_classes_are_text_on_the_page(asking: Any, open_page: Any) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    topic = Topic("colours", evil, (evil, "b'c"), {})
    add_questions(asking.database, topic, [NewQuestion("r", 0, {evil: evil}, ((evil, 0.9),))], 2)
    page = open_page()
    for who, label in (("ada", evil), ("bob", "b'c")):
        (found,) = next_questions(asking.database, asking.topic, who, NOW)
        answer(asking.database, found.question, who, label, NOW)
    html = page.browser("rita").get("/review/colours").text
    assert "&lt;script&gt;" in html and "<script>alert" not in html and "<img" not in html
