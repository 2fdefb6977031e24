"""Flagger's webhooks and Argo's metric over the real judge, with a clock of the test's own."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from components.deploy.advice.adviser import Adviser
from components.deploy.advice.desk import Desk
from contract.schema.serving import DeployConfig
from serving.advice.api import advice_api

TOKEN = {"authorization": "Bearer secret"}


class Rollout:
    """A canary with 5 % of 20 requests a second, asked about every 30 s."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.now = datetime(2026, 1, 31, tzinfo=UTC)
        self.counts = {
            f"{arm}_{name}": 0
            for arm in ("canary", "stable")
            for name in ("requests", "errors", "client_errors")
        }
        self.checksum = "abc"
        self.start()

    def start(self) -> None:
        desk = Desk(Adviser(self.folder, DeployConfig()), None, lambda: self.now)
        self.http = TestClient(advice_api(desk, "secret"), headers=TOKEN)

    def flow(self, errors: int = 0, stable_errors: int = 0, seconds: float = 30.0) -> None:
        self.now += timedelta(seconds=seconds)
        grown = {"canary_requests": 30, "stable_requests": 570, "canary_errors": errors}
        for name, count in (grown | {"stable_errors": stable_errors}).items():
            self.counts[name] += round(count * seconds / 30)

    def given(self) -> dict[str, object]:
        quick = {
            f"{arm}_latency_buckets": {
                "10": self.counts[f"{arm}_requests"],
                "+Inf": self.counts[f"{arm}_requests"],
            }
            for arm in ("canary", "stable")
        }
        return {**self.counts, **quick}

    def hook(self, name: str) -> tuple[int, str]:
        texts = {k: json.dumps(v) for k, v in self.given().items()}  # Flagger sends texts only
        payload = {
            "name": "podinfo",
            "namespace": "test",
            "phase": "Progressing",
            "checksum": self.checksum,
            "metadata": texts,
        }
        answer = self.http.post(f"/flagger/{name}", json=payload)
        return answer.status_code, answer.text

    def measured(self, step: str = "1") -> dict[str, object]:
        body = {"rollout": "test/podinfo", "revision": self.checksum, "step": step, **self.given()}
        answer = self.http.post("/argo/measurement", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@pytest.fixture
def rollout(tmp_path) -> Rollout:
    return Rollout(tmp_path)


def test_a_good_canary_gets_more_traffic_once_its_rung_has_the_evidence(rollout) -> None:
    assert rollout.hook("confirm-traffic-increase")[0] == 403  # nothing was counted yet
    said = []
    for _ in range(6):
        rollout.flow()
        said.append(rollout.hook("confirm-traffic-increase")[0])
    # 118 clean requests are there after 120 s, 90 quick ones after the warm-up as well
    assert said == [403, 403, 403, 200, 403, 403]  # the next rung begins from nothing
    assert rollout.hook("rollback")[0] == 403


def test_a_good_canary_is_promoted_only_with_the_evidence(rollout) -> None:
    rollout.hook("confirm-promotion")
    said = []
    for _ in range(6):
        rollout.flow()
        said.append(rollout.hook("confirm-promotion")[0])
    assert said == [403, 403, 403, 200, 200, 200]  # it is asked again until it has promoted


def test_a_bad_canary_is_rolled_back_and_gets_no_more_traffic(rollout) -> None:
    said = [rollout.hook("rollback")[0]]
    for _ in range(5):
        rollout.flow(errors=6)
        assert rollout.hook("confirm-traffic-increase")[0] == 403
        said.append(rollout.hook("rollback")[0])
    assert said[:2] == [403, 403]
    assert said[-1] == 200
    _, words = rollout.hook("rollback")
    assert "errors decided" in words
    rollout.flow(seconds=600)  # it looks good now, and has failed all the same
    assert rollout.hook("rollback")[0] == 200
    assert rollout.hook("confirm-promotion")[0] == 403


def test_errors_that_both_have_roll_nothing_back(rollout) -> None:
    rollout.hook("rollback")
    for _ in range(10):
        rollout.flow(errors=3, stable_errors=57)
        assert rollout.hook("rollback")[0] == 403
        assert rollout.hook("confirm-traffic-increase")[0] == 403


def test_without_traffic_nothing_is_decided(rollout) -> None:
    for _ in range(5):
        rollout.now += timedelta(seconds=300)
        assert rollout.hook("confirm-traffic-increase")[0] == 403
        assert rollout.hook("confirm-promotion")[0] == 403
        assert rollout.hook("rollback")[0] == 403


@pytest.mark.parametrize(
    ("errors", "decision", "requests"),
    [(0, "pass", 150), (6, "fail", 90)],  # three bad seconds are needed, and then it stays so
)
def test_argo_is_told_the_decision(rollout, errors, decision, requests) -> None:
    assert rollout.measured()["decision"] == "continue"
    for _ in range(5):
        rollout.flow(errors=errors)
        advice = rollout.measured()
    assert advice["decision"] == decision
    assert advice["requests"] == requests
    assert (advice["evidence"]["errors"] >= advice["bounds"]["errors"] == 172.4) == bool(errors)


def test_argos_next_step_begins_from_nothing(rollout) -> None:
    rollout.measured()
    for _ in range(5):
        rollout.flow()
    assert rollout.measured()["decision"] == "continue"  # all timed requests were the warm-up
    for _ in range(4):
        rollout.flow()
        first = rollout.measured()
    assert first["decision"] == "pass"
    rollout.flow()
    second = rollout.measured(step="2")
    assert (second["decision"], second["requests"]) == ("continue", 30)


def test_a_judge_that_restarts_goes_on_with_its_counts(rollout) -> None:
    rollout.measured()
    for _ in range(4):
        rollout.flow()
        rollout.measured()
        rollout.start()
    assert rollout.measured()["requests"] == 120


def test_another_revision_or_a_confirmed_rollout_begins_again(rollout) -> None:
    for _ in range(6):
        rollout.flow(errors=6)
        rollout.hook("rollback")
    assert rollout.hook("rollback")[0] == 200
    rollout.checksum = "def"
    assert rollout.hook("rollback")[0] == 403
    for _ in range(6):
        rollout.flow(errors=6)
        rollout.hook("rollback")
    assert rollout.hook("rollback")[0] == 200
    assert rollout.hook("confirm-rollout")[0] == 200
    assert rollout.hook("rollback")[0] == 403


def test_the_token_is_asked_of_everybody_and_may_come_in_flaggers_metadata(rollout) -> None:
    webhook = {"name": "podinfo", "namespace": "test", "metadata": {}}
    for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}):
        for path, body in (("/flagger/rollback", webhook), ("/argo/measurement", {})):
            assert rollout.http.post(path, json=body, headers=headers).status_code == 401
    sent = webhook | {"metadata": {"token": "wrong"}}
    nobody = {"headers": {"authorization": ""}}
    assert rollout.http.post("/flagger/rollback", json=sent, **nobody).status_code == 401
    sent = webhook | {"metadata": {"token": "secret"}}
    answer = rollout.http.post("/flagger/rollback", json=sent, **nobody)
    assert answer.status_code == 422  # known, and without counts
    assert "canary_requests, canary_errors, canary_latency_buckets" in answer.json()["error"]


def test_what_is_no_question_says_no(rollout) -> None:
    assert rollout.http.post("/argo/measurement", content=b"[1]").status_code == 422
    assert rollout.http.post("/argo/measurement", json={}).status_code == 422
    twice = rollout.http.post("/argo/measurement", content=b'{"rollout": "a", "rollout": "b"}')
    assert (twice.status_code, twice.json()["error"]) == (
        422,
        "expected a JSON object with each key once",
    )
    assert rollout.http.post("/flagger/rollback", json={"name": "x"}).status_code == 422
    deep = rollout.http.post("/argo/measurement", content=b"[" * 100_000)
    assert (deep.status_code, deep.json()["error"]) == (422, twice.json()["error"])


def test_strangers_cost_little_and_are_told_little(rollout) -> None:
    nobody = {"authorization": "", "content-type": "application/json"}
    for token in (b'"\\ud800"', b"NaN", b"[[]]"):
        body = b'{"name": "a", "namespace": "b", "metadata": {"token": %b}}' % token
        answer = rollout.http.post("/flagger/rollback", content=body, headers=nobody)
        assert answer.status_code == 401
    for path in ("/flagger/rollback", "/argo/measurement"):
        answer = rollout.http.post(path, content=b" " * (256 * 1024 + 1), headers=nobody)
        assert answer.status_code == 413
    answer = rollout.http.post("/flagger/rollback", json={"metadata": "a" * 9999}, headers=nobody)
    assert (answer.status_code, len(answer.content) < 500) == (422, True)
    assert rollout.hook("load-test")[0] == 404
    assert rollout.http.get("/healthz").json() == {"status": "ok"}
