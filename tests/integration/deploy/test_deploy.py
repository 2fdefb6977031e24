"""Real canaries: real processes of ours, real Envoy, agent and model servers, real requests.

The tests share one stack and go on from one another's champion.
"""

import json
import signal
import time

from components.deploy.canary.state import STATE_FILE, CanaryState
from components.deploy.promote.manual import carry_out, promotion, rollback, teardown
from contract.records.record import Result
from contract.records.traffic import DeployRecord

PIPELINE = "coins"


def champion(stack) -> int:
    found = stack.client.plan(PIPELINE).champion
    assert found is not None
    return found


def next_version(stack) -> int:
    return stack.layout.kept_versions()[-1] + 1


def test_a_good_canary_is_promoted_and_no_caller_notices(stack, callers):
    before, version = champion(stack), next_version(stack)
    canary, promote = stack.deploy(stack.package(version, compared_with=before))
    assert canary.outcome == "passed"
    assert [s.name for s in canary.ladder] == ["shadow", "5 %", "25 %", "50 %", "95 %"]
    assert promote.outcome == "promoted"
    plan = stack.client.plan(PIPELINE)
    assert (plan.champion, plan.canary, plan.standby) == (version, None, (before,))
    assert callers.failures() == {}
    assert callers.counted()[str(version)] >= canary.canary_requests


def test_a_faulty_one_is_rolled_back_within_two_seconds(stack, callers):
    before, version = champion(stack), next_version(stack)
    run = stack.package(version, compared_with=before, fault_ratio=0.1, shadow_requests=0)
    result = stack.run("canary", run)
    canary = result.detail_as(DeployRecord)
    ended = time.monotonic()
    assert canary.outcome == "rolled_back"
    assert f"rolled back after {canary.canary_requests:,} canary requests" in canary.reasons[0]
    assert result.metrics["rollback_seconds"] <= 2.0
    assert champion(stack) == before
    time.sleep(1.0)
    assert callers.last(version) <= ended
    # callers saw the canary's errors and no others; some fell after the decision
    assert canary.canary_errors <= callers.failures().total() <= canary.canary_errors + 5
    promote = stack.run("promote", run).detail_as(DeployRecord)
    assert promote.outcome == "refused"
    assert champion(stack) == before


def test_a_faulty_one_is_caught_in_shadow_and_no_caller_notices(stack, callers):
    before, version = champion(stack), next_version(stack)
    run = stack.package(version, compared_with=before, fault_ratio=0.1)
    canary = stack.run("canary", run).detail_as(DeployRecord)
    assert canary.outcome == "rolled_back"
    assert "in shadow" in canary.reasons[0]
    assert callers.failures() == {}
    assert callers.counted()[str(version)] == 0


def test_a_canary_killed_on_a_rung_goes_on_with_its_counts(stack, callers):
    before, version = champion(stack), next_version(stack)
    run = stack.package(version, compared_with=before, min_requests_per_step=150)
    path = stack.layout.run(run).step("canary") / STATE_FILE
    process = stack.start("canary", run)
    stack.until(
        lambda: (
            path.exists() and (s := CanaryState.read(path)).phase == 2 and s.canary.requests > 30
        ),
        "second rung under way",
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = CanaryState.read(path)
    plan = stack.client.plan(PIPELINE)
    assert plan.canary is not None
    assert plan.canary.weight_percent == 25
    canary = stack.run("canary", run).detail_as(DeployRecord)
    assert canary.outcome == "passed"
    assert canary.ladder[:2] == killed.ladder
    assert canary.ladder[2].requests >= killed.canary.requests
    assert [s.name for s in canary.ladder] == ["shadow", "5 %", "25 %", "50 %", "95 %"]
    assert callers.failures() == {}
    stack.run("promote", run)
    assert champion(stack) == version


def test_a_canary_survives_the_death_of_the_agent(stack, callers):
    before, version = champion(stack), next_version(stack)
    run = stack.package(version, compared_with=before)
    process = stack.start("canary", run)
    stack.until(lambda: stack.client.plan(PIPELINE).canary is not None, "on a rung")
    stack.kill("agent")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    canary = Result.read(stack.layout.run(run).result("canary")).detail_as(DeployRecord)
    assert canary.outcome == "passed"
    assert callers.failures() == {}
    stack.run("promote", run)


def test_a_manual_promotion_in_mid_canary_stops_it(stack, callers):
    before, version = champion(stack), next_version(stack)
    endless = {"shadow_requests": 0, "min_requests_per_step": 100_000}
    run = stack.package(version, compared_with=before, **endless)
    process = stack.start("canary", run)
    stack.until(lambda: stack.client.plan(PIPELINE).canary is not None, "on a rung")
    move = promotion(stack.client.plan(PIPELINE), stack.layout, before, False, "ada")
    plan = carry_out(stack.client, move)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    canary = Result.read(stack.layout.run(run).result("canary")).detail_as(DeployRecord)
    assert canary.outcome == "refused"
    assert "ada changed the traffic plan" in canary.reasons[0]
    assert stack.client.plan(PIPELINE) == plan
    assert callers.failures() == {}


def test_a_stale_comparison_is_refused(stack):
    version = next_version(stack)
    run = stack.package(version, compared_with=champion(stack) + 100)
    canary = stack.run("canary", run).detail_as(DeployRecord)
    assert canary.outcome == "refused"
    assert "is in service now" in canary.reasons[0]


def test_without_traffic_it_is_inconclusive(stack):
    before, version = champion(stack), next_version(stack)
    run = stack.package(version, compared_with=before, timeout_seconds=15.0)
    canary = stack.run("canary", run).detail_as(DeployRecord)
    assert canary.outcome == "inconclusive"
    plan = stack.client.plan(PIPELINE)
    assert (plan.champion, plan.canary, plan.shadow) == (before, None, None)


def test_by_hand_back_and_out_of_service(stack, callers):
    now, before = champion(stack), stack.client.plan(PIPELINE).standby[0]
    back = rollback(stack.client.plan(PIPELINE), stack.layout, None, "ada")
    assert carry_out(stack.client, back).champion == before
    forced = promotion(stack.client.plan(PIPELINE), stack.layout, now, True, "ada")
    assert forced.warning == f"version {now} did not pass: ada rolled back from it"
    assert carry_out(stack.client, forced).champion == now
    assert callers.failures() == {}
    assert teardown(stack.client, stack.layout, None, "ada").versions == frozenset()
    assert json.loads(stack.layout.traffic_plan.read_text())["author"] == "ada"
