"""Serving on a real cluster: the agent, two Envoys and model servers as pods."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import TestCluster, host_pods, wait_for
from releases import leave_package
from serving_side import ServingSide

from contract.layout import PipelineLayout
from contract.loader import freeze_pipeline
from contract.pipelines import find_pipeline
from contract.records.traffic import DeployRecord, Shadow
from contract.schema.cluster import ServingConfig

# A node has been seen to take 50 s to remove a pod whose containers had ended.
REMOVAL_SECONDS = 180.0
START_SECONDS = 300.0  # a limit, for a node that is busy with other tests


@pytest.fixture(scope="module")
def side(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServingSide]:
    """The serving side on cluster `eval`, with version 1 in service, scaled to two replicas."""
    folder = tmp_path_factory.mktemp("serving")
    root = folder / "artifacts"
    root.mkdir()
    serving = ServingConfig(min_replicas=2, max_replicas=3)
    kubernetes = host_pods({"eval": clusters["eval"]}, folder, serving=serving)
    made = ServingSide(clusters["eval"], PipelineLayout(root, "digits"))
    made.add_package(1, (0.7, 0.3))
    made.add_package(2, (0.3, 0.7))
    made.deploy(kubernetes)
    made.serve({1: 100})
    wait_for(lambda: made.ready("slipway-envoy") == 2, START_SECONDS, "both Envoys")
    wait_for(
        lambda: made.ready("slipway-digits-1") == 2,
        START_SECONDS,
        "what the autoscaler wants at least",
    )
    yield made
    for kind in ("deployment", "service"):
        clusters["eval"].kubectl("delete", kind, "--all", "--wait=false")


def test_shadow_canary_and_roll_back_lose_no_request(side: ServingSide) -> None:
    with side.called() as callers:
        side.serve({1: 100}, shadow=Shadow(version=2, percent=100))
        wait_for(lambda: (arm := side.observation().of(2)) and arm.compared > 20, 180, "pairs")
        arm = side.observation().of(2)
        assert arm is not None
        assert arm.disagreements == arm.compared
        assert callers.counted()["2"] == 0
        for weight in (1, 5, 25, 50):
            side.serve({1: 100 - weight, 2: weight}, shadow=None)
        wait_for(lambda: callers.counted()["2"] > 20, 180, "canary traffic")
        decided = time.monotonic()
        side.serve({1: 100}, standby=(2,))
        time.sleep(2)
    assert callers.reasons() == {}
    assert callers.last(2) - decided < 2.0  # from the decision to the last canary request
    least = callers.counted()["2"] + arm.compared
    wait_for(
        lambda: (seen := side.observation().of(2)) and seen.requests >= least, 120, "all counted"
    )


def test_what_runs_does_not_need_the_agent_nor_the_api_server(side: ServingSide) -> None:
    (agent,) = side.pods("slipway-agent")
    with side.called() as callers:
        side.cluster.kill_container(agent)
        time.sleep(2)
        wait_for(lambda: side.ready("slipway-agent") == 1, START_SECONDS, "the agent again")
        side.serve({1: 50, 2: 50})
        wait_for(lambda: callers.counted()["2"] > 0, 120, "canary traffic")
        with side.cluster.api_server_down():
            time.sleep(8)  # whoever asks it has not had an answer for some time
            decided = time.monotonic()
            side.serve({1: 100}, standby=(2,))
            time.sleep(1)
    assert callers.reasons() == {}
    assert callers.last(2) - decided < 2.0


def is_ready_again(side: ServingSide, pod: str) -> bool:
    """Tell whether a pod's container was started again, and is ready."""
    (status,) = side.cluster.pods("slipway/version=1")[pod]["status"]["containerStatuses"]
    return bool(status["restartCount"] and status["ready"])


def test_a_killed_server_and_a_deleted_envoy_cost_little(side: ServingSide) -> None:
    servers = list(side.cluster.pods("slipway/version=1"))
    with side.called() as callers:
        time.sleep(1)
        side.cluster.kill_container(servers[0])
        # a Deployment says for a while that all are ready, also after one was killed
        wait_for(lambda: is_ready_again(side, servers[0]), 90, "the killed server again")
    # what was under way in it, and per caller one more before the other end knew of the death
    assert callers.failures().total() <= 2 * 4, callers.reasons()
    with side.called() as callers:
        side.cluster.kubectl("delete", "pod", servers[1], "--wait=false")
        wait_for(lambda: servers[1] not in side.cluster.pods(), REMOVAL_SECONDS, "its removal")
        wait_for(lambda: side.ready("slipway-digits-1") == 2, 90, "its successor")
    assert callers.reasons() == {}, "a deleted server drains"


def test_a_version_nobody_needs_goes_and_a_deleted_deployment_comes_back(side: ServingSide) -> None:
    side.serve({1: 100}, standby=())
    second = "slipway/version=2"

    def is_deleted() -> bool:
        found = side.cluster.get("deployments", second)
        return all("deletionTimestamp" in one["metadata"] for one in found)

    wait_for(is_deleted, 180, "the agent's removal of version 2")
    wait_for(lambda: not side.cluster.pods(second), REMOVAL_SECONDS, "removal of its pods")
    for kind in ("services", "horizontalpodautoscalers"):  # the cluster collects what they owned
        wait_for(lambda k=kind: not side.cluster.get(k, second), REMOVAL_SECONDS, kind)
    (scaler,) = side.cluster.get("horizontalpodautoscalers", "slipway/version=1")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 3)
    assert scaler["spec"]["scaleTargetRef"]["name"] == "slipway-digits-1"
    before = set(side.cluster.pods("slipway/version=1"))
    side.cluster.kubectl("delete", "deployment", "slipway-digits-1", "--wait=false")
    wait_for(lambda: not before & set(side.cluster.pods("slipway/version=1")), REMOVAL_SECONDS)
    wait_for(lambda: side.ready("slipway-digits-1") == 2, START_SECONDS, "version 1 again")


def test_the_judge_takes_a_faulty_version_back_within_two_seconds(side: ServingSide) -> None:
    run, faulty = side.layout.run("faulty"), 3
    digest = side.add_package(faulty, (0.7, 0.3), fault_ratio=0.5, compared_with=1)
    rungs = {
        "deploy.shadow_requests": 0,
        "deploy.ladder_percent": [25, 100],
        "deploy.min_seconds_per_step": 2,
    }
    freeze_pipeline(find_pipeline("digits"), run, rungs)
    leave_package(run, faulty, digest, compared_with=1)
    with side.called() as callers:
        result = side.canary(run)
        ended = time.monotonic()
        time.sleep(1)
    record = result.detail_as(DeployRecord)
    assert record.outcome == "rolled_back", record.reasons
    assert result.metrics["rollback_seconds"] <= 2.0
    assert callers.last(faulty) <= ended
    assert callers.failures().keys() == {"500"}  # what it was made to answer, and nothing else
    plan = side.client.plan("digits")
    assert (plan.champion, plan.canary) == (1, None)


def test_a_package_that_cannot_be_served_is_told_in_words(
    side: ServingSide, tmp_path: Path
) -> None:
    side.add_package(4, (0.5, 0.5))
    (side.layout.version(4) / "model" / "saved_model.pb").write_bytes(b"torn")
    plan = side.propose({1: 100}, standby=(4,))
    wait_for(
        lambda: any("CrashLoopBackOff" in problem for problem in side.observation().problems),
        START_SECONDS,
        "the reason",
    )
    # stable goes on meanwhile
    wait_for(lambda: side.observation().generation >= plan.generation, 120, "the plan")
