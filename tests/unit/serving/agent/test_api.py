import json
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from rollouts import a_rollout

from contract.errors import ServiceUnavailableError
from contract.layout import PipelineLayout
from contract.records.rollout import Rollout
from contract.records.traffic import Observation
from serving.agent.access import Access
from serving.agent.api import control_api
from serving.agent.leases import TrialLeases
from serving.agent.plans import PlanStore
from serving.traffic.backend import Capabilities

URL = "/v1/pipelines/digits/plan"
PLAN = {
    "pipeline": "digits",
    "arms": [{"name": "stable", "version": 1, "weight_percent": 100}],
}


@pytest.fixture
def woken() -> list[bool]:
    return []


@pytest.fixture
def api(tmp_path, woken) -> TestClient:
    layout = PipelineLayout(tmp_path, "digits")
    for version in (1, 2):
        layout.version(version).mkdir(parents=True)
        (layout.version(version) / "package.json").write_text("{}")

    def observe(pipeline: str) -> Observation:
        if pipeline == "silent":
            raise ServiceUnavailableError("Envoy does not answer")
        return Observation(pipeline=pipeline, generation=3, observed_at=datetime.now(UTC))

    store = PlanStore(tmp_path, Capabilities(1, 2, True))
    app = control_api(
        store, Access("secret"), observe, lambda: woken.append(True), TrialLeases(store)
    )
    return TestClient(app, headers={"authorization": "Bearer secret"})


def test_a_plan_is_read_proposed_and_read_again(api, woken) -> None:
    assert api.get(URL).json()["generation"] == 0
    assert woken == []
    stored = api.put(URL, json=PLAN)
    assert (stored.status_code, stored.json()["generation"]) == (200, 1)
    assert woken == [True]
    assert api.get(URL).json() == stored.json()
    assert api.get("/v1/pipelines").json() == {"pipelines": ["digits"]}


def test_a_conflict_shows_the_plan_in_force(api, woken) -> None:
    stored = api.put(URL, json=PLAN).json()
    refused = api.put(URL, json=PLAN)
    assert (refused.status_code, refused.json()["plan"]) == (409, stored)
    assert "Read the plan again" in refused.json()["error"]
    assert woken == [True]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not a traffic plan"),
        (b'{"pipeline": "census"}', "the plan is of pipeline 'census', expected 'digits'"),
        (
            b'{"pipeline": "digits", "arms": [{"name": "stable", "version": 1, '
            b'"weight_percent": 90}]}',
            "weights must sum to 100 percent, found 90",
        ),
        (b'{"pipeline": "digits", "standby": [7]}', "no version 7"),
        (
            b'{"pipeline": "digits", "standby": [], "standby": [7]}',
            "not a traffic plan: the key 'standby' is there twice in one object",
        ),
        (b" " * 70_000, "not a traffic plan"),
        (b'{"pipeline": "digits", "record_version": null}', "record_version: found None"),
        (b'{"pipeline": "digits", "arms": [' + b"1, " * 20_000 + b"1]}", "not a traffic plan"),
    ],
)
def test_what_no_data_plane_could_follow_is_refused(api, woken, body, said) -> None:
    refused = api.put(URL, content=body)
    assert refused.status_code == 422
    assert said in refused.json()["error"]
    assert len(refused.content) < 3000
    assert woken == []


@pytest.mark.parametrize(
    "wrong",
    [
        '"lease_seconds": 1e999',
        '"lease_seconds": NaN',
        '"sticky_header": ":path"',
        '"sticky_header": "a b"',
        '"sticky_header": "authorization"',
        '"shadow": {"version": 2, "percent": 1, "max_concurrent_requests": 0}',
        '"shadow": {"version": 2, "percent": 1, "max_concurrent_requests": 4294967296}',
        f'"author": "{"a" * 3000}"',
        f'"reason": "{"a" * 3000}"',
    ],
)
def test_a_plan_that_would_spoil_the_file_or_envoys_documents_is_refused(api, wrong) -> None:
    stored = api.put(URL, json=PLAN).json()
    content = json.dumps({**PLAN, "generation": 1})[:-1] + f", {wrong}}}"
    assert api.put(URL, content=content).status_code == 422
    assert api.get(URL).json() == stored


@pytest.mark.parametrize(
    "body", [b'{"author": NaN}', b'{"author": "\\ud800"}', b"\xff", b"[" * 9000]
)
def test_an_order_in_no_form_of_ours_is_refused(api, body) -> None:
    api.put(URL, json=ON_TRIAL)
    json_headers = {"content-type": "application/json"}
    assert api.put(HOLD, content=body, headers=json_headers).status_code in (400, 422)
    assert api.put(HOLD, content=body).status_code == 422
    assert api.get(URL).json()["hold"] is None


def test_a_body_of_megabytes_is_refused_unread(api) -> None:
    refused = api.put(URL, content=b" " * (1 << 20) + b" ")
    assert (refused.status_code, refused.json()["error"][:33]) == (
        413,
        "expected a body of at most 1,048,",
    )


def test_observations_are_told_or_the_reason_why_not(api) -> None:
    assert api.get("/v1/pipelines/digits/observation").json()["generation"] == 3
    silent = api.get("/v1/pipelines/silent/observation")
    assert (silent.status_code, silent.json()["error"]) == (503, "Envoy does not answer")
    assert api.get("/v1/pipelines/No-Name/observation").status_code == 404


ON_TRIAL = {
    "pipeline": "digits",
    "arms": [
        {"name": "stable", "version": 1, "weight_percent": 95},
        {"name": "canary", "version": 2, "weight_percent": 5},
    ],
}
HOLD = "/v1/pipelines/digits/hold"


def test_a_trial_is_paused_and_resumed(api, woken) -> None:
    api.put(URL, json=ON_TRIAL)
    paused = api.put(HOLD, json={"author": "ada", "reason": "lunch"})
    assert (paused.status_code, paused.json()["hold"]["weight_percent"]) == (200, 5)
    assert api.get(URL).json() == paused.json()
    resumed = api.delete(HOLD)
    assert (resumed.status_code, resumed.json()["hold"]) == (200, None)
    assert woken == [True, True, True]


def test_a_trial_is_withdrawn_by_the_name_of_its_run(api, woken) -> None:
    api.put(URL, json={**ON_TRIAL, "author": "run r2"})
    order = {"author": "run r2", "by": "Airflow", "reason": "the run has failed"}
    withdrawn = api.delete("/v1/pipelines/digits/trial", params=order)
    assert (withdrawn.status_code, withdrawn.json()["withdrawn"]["version"]) == (200, 2)
    assert len(api.get(URL).json()["arms"]) == 1
    assert woken == [True, True]
    of_another = api.delete("/v1/pipelines/digits/trial", params={**order, "author": "run r9"})
    assert (of_another.status_code, len(woken)) == (409, 2)
    assert "no trial of 'run r9'" in of_another.json()["error"]


def test_an_order_that_nobody_can_follow_is_refused(api, woken) -> None:
    api.put(URL, json=PLAN)
    refused = api.put(HOLD, json={"author": "ada"})
    assert (refused.status_code, refused.json()["error"]) == (
        422,
        "pipeline 'digits': no trial is in progress, nothing to pause",
    )
    assert api.delete(HOLD).status_code == 422
    assert api.put(HOLD, json={"reason": "nobody said it"}).status_code == 422
    assert woken == [True]


def test_what_the_controller_wrote_of_a_trial_is_told(api, tmp_path) -> None:
    assert api.get("/v1/pipelines/digits/rollout").status_code == 404
    rollout = a_rollout()
    rollout.write(PipelineLayout(tmp_path, "digits").rollout)
    assert Rollout.model_validate(api.get("/v1/pipelines/digits/rollout").json()) == rollout


def test_everything_but_health_wants_the_token(api) -> None:
    for header in ("", "Bearer wrong", "secret", "Bearer sécret"):
        headers = {"authorization": header.encode()}
        assert api.get(URL, headers=headers).status_code == 401
        assert api.put(URL, json=PLAN, headers=headers).status_code == 401
        assert api.get("/healthz", headers=headers).status_code == 200


def test_the_page_of_a_rollout_is_open_and_can_only_be_read(api, tmp_path) -> None:
    stranger = {"headers": {"authorization": ""}}
    assert "No version has been tried here yet" in api.get("/rollouts/digits", **stranger).text
    a_rollout().write(PipelineLayout(tmp_path, "digits").rollout)
    page = api.get("/rollouts/digits", **stranger)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "version 2 against version 1" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert api.get("/rollouts/", **stranger).status_code == 200
    assert api.get("/rollouts/No-Name", **stranger).status_code == 404
    for method in ("put", "post", "delete", "patch"):
        assert getattr(api, method)("/rollouts/digits", **stranger).status_code == 405


def test_prometheus_reads_plans_and_rollouts_without_a_token(api, tmp_path) -> None:
    api.put(URL, json=ON_TRIAL)
    a_rollout().write(PipelineLayout(tmp_path, "digits").rollout)
    answer = api.get("/metrics", headers={"authorization": ""})
    assert answer.status_code == 200
    for line in (
        'slipway_plan_generation{pipeline="digits"} 1.0',
        'slipway_arm_weight_percent{arm="canary",pipeline="digits",version="2"} 5.0',
        'slipway_rollout_state{pipeline="digits",state="running",version="2"} 1.0',
        'slipway_rollout_evidence{pipeline="digits",side="against",test="errors",version="2"} 21.5',
        'slipway_rollout_bound{pipeline="digits",side="against",test="errors",version="2"} 172.4',
        'slipway_rollout_evidence{pipeline="digits",side="for",test="errors",version="2"} 1.24',
        'slipway_rollout_seconds_to_decision{pipeline="digits",version="2"} 56.0',
        'slipway_rollout_seconds_left{pipeline="digits",version="2"} 3420.0',
    ):
        assert line in answer.text
    assert 'side="for",test="p99"' not in answer.text  # it has no such side


def test_of_a_rollout_that_is_over_only_the_end_is_told(api, tmp_path) -> None:
    api.put(URL, json=PLAN)
    a_rollout(state="rolled back").write(PipelineLayout(tmp_path, "digits").rollout)
    text = api.get("/metrics").text
    assert 'slipway_rollout_state{pipeline="digits",state="rolled back",version="2"} 1.0' in text
    assert "slipway_rollout_evidence{" not in text
    (tmp_path / "digits" / "serving" / "rollout.json").write_text("{")
    text = api.get("/metrics").text
    assert 'slipway_plan_generation{pipeline="digits"} 1.0' in text
    assert "slipway_rollout_state{" not in text
