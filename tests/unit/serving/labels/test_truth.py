"""What has turned out to be true comes by HTTP: who may tell it, and what becomes of each label."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from contract.records.access import AgentToken, AgentTokens, Right
from contract.tokens import bearer, token_digest
from serving.labels.page.app import Desk, label_app
from serving.labels.page.door import Door
from serving.labels.page.limits import Limit
from serving.labels.page.visitors import Visitors
from serving.labels.store.truths import told
from serving.labels.truth import MOST_BYTES, MOST_LABELS, truth_routes
from serving.token_file import TokenFile

NOW = 1_796_000_000.0
ADDRESS = "/truth/colours"


@pytest.fixture
def http(asking: Any, tmp_path: Path) -> TestClient:
    """The server over a database with questions about colours, asked by the bank's token."""
    asking.add("dark")
    rights: dict[str, Right] = {"bank": "report", "ada": "label"}
    tokens = [
        AgentToken(
            name=name,
            digest=token_digest(f"token-{name}"),
            rights=(right,),
            pipelines=("colours",),
            created_at=datetime(2026, 11, 29, tzinfo=UTC),
        )
        for name, right in rights.items()
    ]
    AgentTokens(tokens=tuple(tokens)).write(tmp_path / "tokens.json")
    visitors = Visitors(TokenFile(tmp_path / "tokens.json"), "secret")
    door = Door(visitors, per_token=Limit(per_second=0.001, burst=9))
    app = label_app(Desk(asking.database, door), truth_routes(door, asking.database, lambda: NOW))
    return TestClient(app, headers={**bearer("token-bank"), "accept": "application/json"})


def label(request_id: str, label: str, **more: Any) -> dict[str, Any]:
    return {"request_id": request_id, "label": label, **more}


def known(asking: Any) -> list[tuple[str, int, str]]:
    return [(one.request_id, one.row, one.label) for one in told(asking.database, asking.topic)]


def test_labels_are_stored_once_and_the_newest_counts(http: TestClient, asking: Any) -> None:
    said = [label("a", "red"), label("a", "green", row=1), label("not logged yet", "blue")]
    first = http.post(ADDRESS, json={"labels": said}).json()
    assert first == {"added": 3, "known": 0, "corrected": 0, "refused": []}
    again = http.post(ADDRESS, json={"labels": [label("a", "blue"), *said[1:]]}).json()
    assert again == {"added": 0, "known": 2, "corrected": 1, "refused": []}
    assert known(asking) == [("a", 0, "blue"), ("a", 1, "green"), ("not logged yet", 0, "blue")]


def test_labels_that_are_not_valid_are_told_and_the_others_stored(
    http: TestClient, asking: Any
) -> None:
    said = [
        *(label("a", "red"), label("b", "mauve"), label("", "red"), label("c" * 501, "red")),
        *(label("d", "red", row=-1), label("e", "red", row=2**31), label("f\0", "red")),
        *(label("g", "red"), label("g", "blue"), label("h", "red"), label("h", "red")),
    ]
    done = http.post(ADDRESS, json={"labels": said}).json()
    assert (done["added"], len(done["refused"])) == (2, 7)
    assert done["refused"][0] == "label 1: expected one of red, green, blue, found 'mauve'"
    assert done["refused"][-1] == "g, row 0: found blue, red for one row"
    assert known(asking) == [("a", 0, "red"), ("h", 0, "red")]


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", '"x"', "{}", '{"labels": []}', '{"labels": {}}', "[" * 9_999, "\xff"),
        *('{"labels": [1]}', '{"labels": [{"request_id": "a"}]}'),
        '{"labels": [{"request_id": 1, "label": "red"}]}',
        '{"labels": [{"request_id": "a", "label": "red", "row": true}]}',
        '{"labels": [{"request_id": "a", "label": "red", "row": "1"}]}',
        '{"labels": [{"request_id": "a", "label": "red", "more": 1}]}',
        r'{"labels": [{"request_id": "\ud800", "label": "red"}]}',
    ],
)
def test_what_is_no_message_is_refused_whole(http: TestClient, asking: Any, body: str) -> None:
    refused = http.post(ADDRESS, content=body.encode("latin-1"))
    assert refused.status_code == 422
    assert "label" in refused.json()["error"]
    assert known(asking) == []


def test_a_message_has_a_largest_size(http: TestClient, asking: Any) -> None:
    many = [label(f"r{number}", "red") for number in range(MOST_LABELS + 1)]
    refused = http.post(ADDRESS, json={"labels": many})
    assert (refused.status_code, "found 1,001 labels" in refused.text) == (422, True)
    assert http.post(ADDRESS, json={"labels": many[1:]}).json()["added"] == MOST_LABELS
    refused = http.post(ADDRESS, content=b" " * (MOST_BYTES + 1))
    assert (refused.status_code, "at most 262,144 bytes" in refused.text) == (422, True)


def test_only_a_token_with_the_right_may_tell(http: TestClient, asking: Any) -> None:
    said = {"labels": [label("a", "red")]}
    refused = http.post(ADDRESS, json=said, headers=bearer("token-ada"))
    assert refused.status_code == 403
    assert refused.json()["error"] == "Token 'ada' may not report: it has label."
    assert http.post(ADDRESS, json=said, headers=bearer("none")).status_code == 401
    assert http.post("/truth/digits", json=said).status_code == 403  # another pipeline
    assert http.get("/p/colours").status_code == 403  # tells, and labels nothing
    login = http.post("/login", data={"token": "token-bank"}, headers={"authorization": ""})
    assert login.status_code == 403  # a browser has nothing to see, so no cookie tells
    assert known(asking) == []


def test_a_head_that_nobody_was_asked_about_is_not_found(http: TestClient) -> None:
    refused = http.post(f"{ADDRESS}?head=size", json={"labels": [label("a", "red")]})
    assert refused.status_code == 404
    assert "'slipway labels harvest colours' makes some" in refused.json()["error"]


def test_a_flood_is_slowed_down(http: TestClient) -> None:
    said = {"labels": [label("a", "red")]}
    found = [http.post(ADDRESS, json=said).status_code for _ in range(11)]
    assert found == [200] * 9 + [429] * 2
