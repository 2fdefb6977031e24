"""Attacks on the control API by holders of a token with some rights, and by those who have none."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from contract.layout import PipelineLayout
from contract.records.access import AgentToken, AgentTokens, Right
from contract.records.traffic import Observation
from contract.tokens import new_token, token_digest
from serving.agent.access import Access
from serving.agent.api import control_api
from serving.agent.leases import TrialLeases
from serving.agent.plans import PlanStore
from serving.traffic.backend import Capabilities

PLAN = {
    "pipeline": "digits",
    "arms": [{"name": "stable", "version": 1, "weight_percent": 100}],
}
ORDER = {"author": "somebody"}
REQUESTS: dict[Right, list[tuple[str, str, object]]] = {
    "read": [("GET", "plan", None), ("GET", "observation", None), ("GET", "rollout", None)],
    "propose": [("PUT", "plan", PLAN), ("DELETE", "trial", None)],
    "approve": [("PUT", "hold", ORDER), ("DELETE", "hold", None)],
    "label": [],  # nothing here: it is for the label page
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def api(tmp_path: Path, file: Path) -> TestClient:
    layout = PipelineLayout(tmp_path, "digits")
    layout.version(1).mkdir(parents=True)
    (layout.version(1) / "package.json").write_text("{}")

    def observe(pipeline: str) -> Observation:
        return Observation(pipeline=pipeline, generation=3, observed_at=datetime.now(UTC))

    store = PlanStore(tmp_path, Capabilities(1, 2, True))
    return TestClient(
        control_api(store, Access("owner", file), observe, lambda: None, TrialLeases(store))
    )


def given(file: Path, *rights: Right, pipelines: tuple[str, ...] = ("*",), name: str = "ci") -> str:
    """Add a token to the file, and return it."""
    made, now = new_token(), datetime.now(UTC)
    one = AgentToken(
        name=name, digest=token_digest(made), rights=rights, pipelines=pipelines, created_at=now
    )
    before = AgentTokens.read(file).tokens if file.exists() else ()
    AgentTokens(tokens=(*before, one)).write(file)
    return made


def asked(api: TestClient, token: str, method: str, path: str, body: object = None) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return api.request(method, path, headers=headers, json=body).status_code


@pytest.mark.parametrize("right", REQUESTS)
def test_a_token_may_what_it_has_the_right_for_and_nothing_else(api, file, right: Right) -> None:
    token = given(file, right)
    for other, requests in REQUESTS.items():
        for method, what, body in requests:
            path = f"/v1/pipelines/digits/{what}"
            answers = {401, 403} & {asked(api, token, method, path, body)}
            assert answers == (set() if other == right else {403}), (right, method, what)


def test_a_refusal_names_the_right_that_is_missing(api, file) -> None:
    token = given(file, "read", pipelines=("digits", "census"))
    headers = {"authorization": f"Bearer {token}"}
    refused = api.put("/v1/pipelines/digits/plan", headers=headers, json=PLAN)
    assert refused.json()["error"] == (
        "token 'ci': the right 'propose' for pipeline 'digits' is missing; it has read for digits, "
        "census ('slipway token add' makes one with other rights)"
    )
    assert api.get("/v1/pipelines/digits/plan", headers=headers).json()["generation"] == 0


def test_a_token_of_one_pipeline_is_of_no_use_for_another(api, file) -> None:
    token = given(file, "read", "propose", pipelines=("digits",))
    assert asked(api, token, "PUT", "/v1/pipelines/digits/plan", PLAN) == 200
    for path in ("census/plan", "digits2/plan", "Digits/plan", "*/plan", "digits%2Fplan/plan"):
        assert asked(api, token, "GET", f"/v1/pipelines/{path}") == 403, path
    assert asked(api, token, "GET", "/v1/pipelines") == 403  # the names of all
    assert asked(api, given(file, "read", name="all"), "GET", "/v1/pipelines") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/openapi.json"),
        ("POST", "/v1/pipelines/digits/plan"),
        ("DELETE", "/v1/pipelines/digits/plan"),
        ("GET", "/v1/pipelines/digits"),
        ("GET", "/v1/pipelines/digits/plan/"),
        ("GET", "//v1/pipelines/digits/plan"),
        ("GET", "/v1/pipelines/../pipelines/digits/secrets"),
    ],
)
def test_what_no_right_is_for_is_the_owners_alone(api, file, method: str, path: str) -> None:
    token = given(file, "read", "propose", "approve")
    assert asked(api, token, method, path) == 403
    assert asked(api, "owner", method, path) != 403


def test_a_token_is_known_as_soon_as_it_is_made_and_refused_once_removed(api, file) -> None:
    path = "/v1/pipelines/digits/plan"
    assert asked(api, "nobody", "GET", path) == 401
    token = given(file, "read")
    assert asked(api, token, "GET", path) == 200
    AgentTokens().write(file)
    assert asked(api, token, "GET", path) == 401
    file.unlink()
    assert asked(api, token, "GET", path) == 401
    assert asked(api, "owner", "GET", path) == 200


def test_a_broken_file_lets_nobody_in_but_the_owner(api, file, caplog) -> None:
    token = given(file, "read")
    file.write_text('{"tokens": [')
    for _ in range(3):
        assert asked(api, token, "GET", "/v1/pipelines/digits/plan") == 401
    assert asked(api, "owner", "GET", "/v1/pipelines/digits/plan") == 200
    assert caplog.text.count("tokens besides the owner's are refused") == 1, "told once"


@pytest.mark.parametrize("scheme", ["", "Basic ", "bearer", "Bearer  ", "Bearer\t", "Token "])
def test_a_token_counts_as_a_bearer_token_only(api, file, scheme: str) -> None:
    headers = {"authorization": f"{scheme}{given(file, 'read')}"}
    assert api.get("/v1/pipelines/digits/plan", headers=headers).status_code == 401


def test_the_file_holds_no_token(api, file) -> None:
    token = given(file, "read")
    text = file.read_text()
    assert token not in text
    assert token.removeprefix("slipway_") not in text
    assert asked(api, token_digest(token), "GET", "/v1/pipelines/digits/plan") == 401
    assert given(file, "read", name="other") != token
