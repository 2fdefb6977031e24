"""Real canaries: real processes of ours, real Envoy, agent and model servers, real requests.

The tests share one stack and go on from one another's champion.
"""

import json
import signal
import time
from datetime import UTC, datetime
from typing import Any

from callers import Callers

from components.deploy.canary.state import STATE_FILE, CanaryState
from components.deploy.imported import deploy_imported
from components.deploy.labelled.verdict import judge_labels, rollback_by_labels
from components.deploy.promote.manual import carry_out, promotion, rollback, teardown
from components.package.imported import Import, import_model
from contract.layout import PipelineLayout
from contract.loader import load_frozen
from contract.prediction_log.reading import read_tables
from contract.records.record import Result
from contract.records.traffic import DeployRecord
from contract.schema.imported import DeployingConfig, PackagingConfig
from slipway.client import Client

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
    logs = stack.settings.logs_folder.glob("slipway-server-*.log")
    said = [log.read_text() for log in logs]
    assert len(said) == 2  # else each server would import TensorFlow, and nobody notice
    assert not any("fresh process" in text for text in said)


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
    output, _ = process.communicate(timeout=700)
    assert process.returncode == 0, output
    canary = Result.read(stack.layout.run(run).result("canary")).detail_as(DeployRecord)
    assert canary.outcome == "passed"
    assert callers.failures() == {}
    stack.run("promote", run)


def test_labels_that_come_late_roll_a_promoted_version_back(stack, callers, tmp_path):
    """Half of what the version in service has answered turns out to be wrong."""
    plan = stack.client.plan(PIPELINE)
    version, before = champion(stack), plan.lineage[-2]
    needed = {version: 200, before: 200}

    def logged() -> dict[int, list[dict[str, Any]]]:
        columns = ["request_id", "row", "arm", "predicted:side"]
        return {
            one: [
                row
                for table in read_tables(stack.layout.predictions(one), columns=columns)
                for row in table.to_pylist()
                if row["arm"] in ("stable", "canary")
            ]
            for one in needed
        }

    stack.until(lambda: all(len(logged()[one]) >= n for one, n in needed.items()), "200 answers")
    classes = ("heads", "tails")
    lines = ["request_id,row,side"]
    for one, rows in logged().items():
        for number, row in enumerate(rows):
            is_right = one == before or number % 2 == 0
            side = classes[row["predicted:side"] ^ (not is_right)]
            lines.append(f"{row['request_id']},{row['row']},{side}")
    file = tmp_path / "truth.csv"
    file.write_text("\n".join(lines) + "\n")
    config = load_frozen(stack.layout.run(f"r{version}"))
    verdict = judge_labels(stack.layout, config, plan, file, datetime.now(UTC))
    assert (verdict.decision, verdict.decided_by, verdict.unknown) == ("rollback", "side", 0)
    assert verdict.tests[0].before.accuracy == 1.0
    carry_out(stack.client, rollback_by_labels(plan, stack.layout, verdict, "ada"))
    after = stack.client.plan(PIPELINE)
    mark = after.mark_of(version)
    assert after.champion == before
    assert mark is not None
    assert mark.reason.startswith(f"rolled back by labels: side: version {version} is right in")
    assert callers.failures() == {}


def test_a_manual_promotion_in_mid_canary_stops_it(stack, callers):
    before, version = champion(stack), next_version(stack)
    endless = {"shadow_requests": 0, "min_requests_per_step": 100_000}
    run = stack.package(version, compared_with=before, **endless)
    process = stack.start("canary", run)
    stack.until(lambda: stack.client.plan(PIPELINE).canary is not None, "on a rung")
    move = promotion(stack.client.plan(PIPELINE), stack.layout, before, False, "ada")
    plan = carry_out(stack.client, move)
    output, _ = process.communicate(timeout=240)
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


def test_a_strangers_model_is_promoted_and_no_caller_notices(stack, model):
    layout = PipelineLayout(stack.layout.root, "stranger")
    short = {"deploy": {"ladder_percent": [50, 100], "shadow_requests": 20, "timeout_seconds": 240}}
    short["deploy"]["min_seconds_per_step"] = 0
    settings = DeployingConfig.model_validate_json(json.dumps(short))
    agent = (stack.agent_url, str(stack.token_file))
    tried = {"package": {"loadtest": {"requests": 50, "max_p99_ms": 60000.0}}}
    packaging = PackagingConfig.model_validate_json(json.dumps(tried))
    import_model(Import(model, [0.0, 1.0], "", packaging), layout)
    assert deploy_imported(layout, 1, settings, *agent).outcome == "promoted"
    import_model(Import(model, [], "", packaging), layout)
    address, body = ("127.0.0.1", stack.settings.envoy_port), {"instances": [0.0]}
    with Callers(address, "stranger", body, pause=0.01) as callers:
        record = deploy_imported(layout, 2, settings, *agent)
    assert (record.outcome, record.champion_version) == ("promoted", 1), record.reasons
    assert [rung.name for rung in record.ladder] == ["shadow", "50 %", "95 %"]
    assert callers.failures() == {}
    assert callers.counted()["2"] >= record.canary_requests
    with Client(f"grpc://127.0.0.1:{stack.settings.envoy_port}", "stranger") as stranger:
        answer = stranger.predict({"x": [0.0]})
    assert (answer.version, answer.outputs["scores"].tolist()) == (2, [[0.5, 0.5]])
    plan = stack.client.plan("stranger")
    assert (plan.champion, plan.standby) == (2, (1,))
