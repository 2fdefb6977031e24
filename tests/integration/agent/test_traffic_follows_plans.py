"""What callers see when plans change: real Envoy, supervisord and agent, stand-in servers."""

import statistics
import time
from itertools import pairwise

import httpx
import pytest

from contract.errors import UserError
from contract.records.traffic import Arm, Shadow


def test_first_plan_gets_all_traffic_and_the_agent_says_so(stack) -> None:
    stack.package(1)
    plan = stack.serve({1: 100})
    assert stack.predict(20) == {"1": 20}
    stack.until(lambda: stack.seen(1).latency_counts[-1:] == (20,), "latencies counted")
    seen = stack.seen(1)
    assert (seen.is_ready, seen.requests, seen.errors) == (True, 20, 0)
    assert stack.observation().generation == plan.generation == 1


def test_weights_are_honoured(stack) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 80, 2: 20})
    answered = stack.predict(1000)
    # five standard deviations of a binomial(1000, 0.2)
    assert answered["2"] == pytest.approx(200, abs=5 * (1000 * 0.2 * 0.8) ** 0.5)
    assert answered["1"] + answered["2"] == 1000
    assert stack.seen(2).requests == answered["2"]


def test_a_user_stays_on_the_canary_while_it_grows(stack) -> None:
    """400 users, of whom none flips back; a request that names no user is drawn by chance."""
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100}, standby=(2,))
    stack.until(lambda: stack.seen(2).is_ready, "version 2 ready")
    seen: list[set[str]] = []
    for percent in (5, 10, 25, 50):
        arms = (
            Arm(name="stable", version=1, weight_percent=100 - percent),
            Arm(name="canary", version=2, weight_percent=percent),
        )
        changes = {"arms": arms, "standby": (), "sticky_header": "x-user-id"}
        plan = stack.client.plan("digits").model_copy(update=changes)
        stack.wait_for(stack.client.propose(plan))
        seen.append(users_of(stack, "2"))
        assert users_of(stack, "2") == seen[-1]  # asked again, everybody meets the same version
    assert all(before <= after for before, after in pairwise(seen))
    for users, percent in zip(seen, (5, 10, 25, 50), strict=True):
        # five standard deviations of a binomial(400, percent)
        spread = 5 * (400 * percent / 100 * (1 - percent / 100)) ** 0.5
        assert len(users) == pytest.approx(4 * percent, abs=spread)
    answered = stack.predict(200)
    assert answered["2"] == pytest.approx(100, abs=36)


def users_of(stack, version: str) -> set[str]:
    """Return which of 400 users a version answers."""
    with httpx.Client(base_url=stack.url, trust_env=False) as http:
        answers = {
            user: http.post(
                "/v1/models/digits:predict", json={}, headers={"X-User-Id": user}
            ).headers["x-slipway-version"]
            for user in (f"user-{number}" for number in range(400))
        }
    return {user for user, found in answers.items() if found == version}


def test_errors_of_a_version_are_counted_as_its_own(stack) -> None:
    stack.package(1)
    stack.package(2, error_every=2)
    stack.serve({1: 50, 2: 50})
    answered = stack.predict(200)
    assert stack.seen(1).errors == 0
    assert stack.seen(2).errors == answered["500"] > 0
    assert stack.seen(2).requests == answered["500"] + answered["2"]


def test_no_request_fails_over_twenty_weight_changes_under_load(stack, load_on) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100}, standby=(2,))
    stack.until(lambda: stack.seen(2).is_ready, "version 2 ready")
    seconds = []
    with load_on(stack, pause=0.0) as load:
        for change in range(20):
            weight = (5 * change) % 100 + 1
            plan = stack.propose({1: 100 - weight, 2: weight})
            seconds.append(stack.wait_for(plan))
    assert load.failures() == {}
    assert load.counted()["2"] > 0
    assert statistics.median(seconds) < 1.0


def test_a_version_gets_no_traffic_before_it_is_ready(stack, load_on) -> None:
    stack.package(1)
    may_start = stack.gated_package(2)
    stack.serve({1: 100})
    with load_on(stack) as load:
        plan = stack.propose({1: 50, 2: 50})
        stack.until(lambda: stack.server(2) in stack.supervisor.states(), "server 2 started")
        proposed = time.monotonic()
        stack.until(lambda: len(load.since(proposed)) > 500, "requests meanwhile")
        assert stack.observation().generation == plan.generation - 1
        assert load.counted()["2"] == 0
        may_start.touch()
        stack.wait_for(plan)
        stack.until(lambda: load.counted()["2"] > 0, "traffic of version 2")
    assert load.failures() == {}


def test_a_roll_back_leaves_the_canary_without_requests_within_two_seconds(stack, load_on) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 50, 2: 50})
    with load_on(stack) as load:
        stack.until(lambda: load.counted()["2"] > 10, "canary traffic")
        decided = time.monotonic()
        stack.wait_for(stack.propose({1: 100}))
        time.sleep(2.5)
    last = load.last(2)
    assert last - decided < 2.0
    assert load.failures() == {}


def test_servers_that_no_plan_names_end_and_standbys_stay(stack, load_on) -> None:
    for version in (1, 2, 3):
        stack.package(version)
    stack.serve({1: 90, 2: 10}, standby=(3,))
    with load_on(stack) as load:
        stack.serve({2: 100}, standby=(3,))
        stack.until(lambda: stack.server(1) not in stack.supervisor.states(), "server 1 gone")
    assert load.failures() == {}
    servers = {name for name in stack.supervisor.states() if name.startswith("slipway-server-")}
    assert servers == {stack.server(2), stack.server(3)}
    # and one that is wanted again comes back
    stack.serve({1: 100})
    assert stack.predict(5) == {"1": 5}


def test_a_version_that_comes_back_is_counted_on(stack) -> None:
    """Else the judge of the next canary sees a stable version without traffic."""
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100})
    stack.predict(20)
    assert stack.seen(1).requests == 20
    stack.serve({2: 100})
    stack.until(lambda: stack.server(1) not in stack.supervisor.states(), "server 1 gone")
    stack.serve({1: 100})
    stack.predict(5)
    stack.until(lambda: stack.seen(1).requests == 25, "requests before and after")


def test_a_version_can_be_asked_directly_while_it_runs(stack) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100}, standby=(2,))
    stack.until(lambda: stack.seen(2).is_ready, "version 2 ready")
    answers = {
        version: httpx.post(f"{stack.url}/v1/models/digits/versions/{version}:predict", json={})
        for version in (1, 2, 20)
    }
    assert [answers[v].headers.get("x-slipway-version") for v in (1, 2)] == ["1", "2"]
    assert answers[20].status_code == 404
    assert answers[20].json() == {"error": "pipeline 'digits': this version does not run"}


def test_only_predictions_asked_of_the_pipeline_are_a_versions_counts(stack) -> None:
    stack.package(1)
    stack.serve({1: 100})
    for path in ("", "/metadata", "/versions/1"):
        assert httpx.get(f"{stack.url}/v1/models/digits{path}").status_code == 200
    httpx.post(f"{stack.url}/v1/models/digits/versions/1:predict", json={})
    assert stack.predict(7) == {"1": 7}
    stack.until(lambda: stack.seen(1).latency_total == 7, "latencies counted")
    assert (stack.seen(1).requests, stack.seen(1).client_errors) == (7, 0)


def test_refusals_are_counted_apart_from_errors(stack) -> None:
    stack.package(1, refused_every=2)
    stack.serve({1: 100})
    assert stack.predict(10) == {"1": 5, "400": 5}
    seen = stack.seen(1)
    assert (seen.requests, seen.errors, seen.client_errors) == (10, 0, 5)


def test_what_is_under_way_is_seen(stack, load_on) -> None:
    stack.package(1, delay_seconds=2.0)
    stack.serve({1: 100})
    with load_on(stack):
        stack.until(lambda: stack.seen(1).active > 0, "requests under way")
    stack.until(lambda: stack.seen(1).active == 0, "all answered")


def test_what_is_not_served_is_answered_in_json(stack) -> None:
    unknown = httpx.post(f"{stack.url}/v1/models/census:predict", json={})
    assert (unknown.status_code, "no such pipeline" in unknown.json()["error"]) == (404, True)
    stack.package(1)
    stack.serve({1: 100})
    longer_name = httpx.post(f"{stack.url}/v1/models/digits2:predict", json={})
    assert longer_name.status_code == 404
    stack.serve({})
    ended = httpx.post(f"{stack.url}/v1/models/digits:predict", json={})
    assert ended.status_code == 503
    assert ended.json() == {"error": "pipeline 'digits': no version is in service"}


def test_the_request_id_is_kept_or_made(stack) -> None:
    stack.package(1)
    stack.serve({1: 100})
    own_id = "0a1b2c3d-0000-4000-8000-000000000001"  # a uuid: Envoy would write into one
    url = f"{stack.url}/v1/models/digits:predict"
    kept = httpx.post(url, json={}, headers={"x-request-id": own_id})
    assert kept.json()["id"] == kept.headers["x-request-id"] == own_id
    made = httpx.post(url, json={})
    assert made.json()["id"] == made.headers["x-request-id"] != ""


def test_shadow_sees_copies_and_callers_never_wait_for_it(stack, load_on) -> None:
    stack.package(1)
    stack.package(2, delay_seconds=1.0)
    stack.serve({1: 100}, shadow=Shadow(version=2, percent=100, max_concurrent_requests=3))
    with load_on(stack) as load:
        time.sleep(3.0)
    assert load.counted().keys() == {"1"}
    assert statistics.median(answer.seconds for answer in load.answers) < 0.2
    most = httpx.get(f"http://127.0.0.1:{stack.server_port(2)}/most").json()["most"]
    assert 1 <= most <= 3
    stack.until(lambda: stack.seen(2).requests >= 6, "copies answered")
    # what the cap turned away is no error of the shadow
    assert stack.seen(2).errors == 0
    assert stack.seen(2).requests < stack.seen(1).requests / 2


def test_a_body_of_many_megabytes_is_served_and_copied(stack) -> None:
    stack.package(1)
    stack.package(2)
    stack.serve({1: 100}, shadow=Shadow(version=2, percent=100))
    body = b"[" + b"0," * (4 << 20) + b"0]"
    url = f"{stack.url}/v1/models/digits:predict"
    answers = [httpx.post(url, content=body, timeout=120.0) for _ in range(3)]
    assert [answer.json()["size_bytes"] for answer in answers] == [len(body)] * 3
    stack.until(lambda: stack.seen(2).requests == 3, "copies")
    assert (stack.seen(1).errors, stack.seen(2).errors) == (0, 0)


def test_disagreements_are_counted_exactly(stack) -> None:
    stack.package(1, answer=3)
    stack.package(2, answer=4)
    stack.package(3, answer=3)
    stack.serve({1: 100}, shadow=Shadow(version=2, percent=100))
    stack.predict(25)
    stack.until(lambda: stack.seen(2).compared == 25, "25 pairs of version 2")
    assert stack.seen(2).disagreements == 25
    stack.serve({1: 100}, shadow=Shadow(version=3, percent=100), standby=(2,))
    stack.predict(30)
    stack.until(lambda: stack.seen(3).compared == 30, "30 pairs of version 3")
    assert stack.seen(3).disagreements == 0
    assert (stack.seen(2).compared, stack.seen(1).compared) == (25, 0)


def test_a_plan_with_an_unknown_version_is_refused(stack) -> None:
    stack.package(1)
    with pytest.raises(UserError, match=r"no version 7 \(kept: 1\)"):
        stack.propose({1: 50, 7: 50})
