"""Serving on a real cluster: the agent, two Envoys and model servers as pods."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import TestCluster, host_pods, wait_for
from serving_side import Callers, ServingSide

from contract.layout import PipelineLayout
from contract.records.traffic import Shadow
from contract.schema.cluster import ServingConfig


@pytest.fixture(scope="module")
def side(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServingSide]:
    """The serving side on cluster `eval`, with version 1 of two replicas in service."""
    folder = tmp_path_factory.mktemp("serving")
    root = folder / "artifacts"
    root.mkdir()
    serving = ServingConfig(min_replicas=2, max_replicas=2)
    kubernetes = host_pods({"eval": clusters["eval"]}, folder, serving=serving)
    made = ServingSide(clusters["eval"], PipelineLayout(root, "digits"))
    made.add_package(1, (0.7, 0.3))
    made.add_package(2, (0.3, 0.7))
    made.deploy(kubernetes)
    made.serve({1: 100})
    wait_for(lambda: made.ready("slipway-envoy") == 2, 60, "both Envoys")
    yield made
    for kind in ("deployment", "service"):
        clusters["eval"].kubectl("delete", kind, "--all", "--wait=false")


def test_shadow_canary_and_roll_back_lose_no_request(side: ServingSide) -> None:
    with Callers(side) as callers:
        side.serve({1: 100}, shadow=Shadow(version=2, percent=100))
        wait_for(lambda: (arm := side.observation().of(2)) and arm.compared > 20, 60, "pairs")
        arm = side.observation().of(2)
        assert arm is not None
        assert arm.disagreements == arm.compared
        assert callers.counted()["2"] == 0
        for weight in (1, 5, 25, 50):
            side.serve({1: 100 - weight, 2: weight}, shadow=None)
        wait_for(lambda: callers.counted()["2"] > 20, 60, "canary traffic")
        decided = time.monotonic()
        side.serve({1: 100}, standby=(2,))
        time.sleep(2)
    assert callers.failures() == {}
    assert callers.last(2) - decided < 2.0  # from the decision to the last canary request
    seen = side.observation().of(2)
    assert seen is not None
    assert seen.requests >= callers.counted()["2"] + arm.compared


def test_what_runs_does_not_need_the_agent_nor_the_api_server(side: ServingSide) -> None:
    (agent,) = side.pods("slipway-agent")
    with Callers(side) as callers:
        side.cluster.kill_container(agent)
        time.sleep(2)
        wait_for(lambda: side.ready("slipway-agent") == 1, 60, "the agent again")
        side.serve({1: 50, 2: 50})
        before = callers.counted()["2"]
        with side.cluster.api_server_down():
            time.sleep(8)  # whoever asks it has not had an answer for some time
            decided = time.monotonic()
            side.serve({1: 100}, standby=(2,))
            time.sleep(1)
    assert callers.failures() == {}
    assert before > 0
    assert callers.last(2) - decided < 2.0


def test_a_killed_server_and_a_deleted_envoy_cost_little(side: ServingSide) -> None:
    servers = list(side.cluster.pods("slipway/version=1"))
    with Callers(side) as callers:
        time.sleep(1)
        side.cluster.kill_container(servers[0])
        wait_for(lambda: side.ready("slipway-digits-1") == 2, 90, "the killed server again")
    # what was under way in it, and per caller one more before the other end knew of the death
    assert sum(callers.failures().values()) <= 2 * 4, callers.failures()
    with Callers(side) as callers:
        side.cluster.kubectl("delete", "pod", servers[1], "--wait=false")
        wait_for(lambda: servers[1] not in side.cluster.pods(), 60, "removal of the deleted server")
        wait_for(lambda: side.ready("slipway-digits-1") == 2, 90, "its successor")
    assert callers.failures() == {}, "a deleted server drains"


def test_a_version_nobody_needs_goes_and_a_deleted_deployment_comes_back(side: ServingSide) -> None:
    side.serve({1: 100}, standby=())
    wait_for(lambda: not side.cluster.pods("slipway/version=2"), 60, "removal of version 2")
    assert not side.cluster.get("services", "slipway/version=2")
    side.cluster.kubectl("delete", "deployment", "slipway-digits-1", "--wait=false")
    wait_for(lambda: side.ready("slipway-digits-1") == 2, 120, "version 1 again")


def test_a_package_that_cannot_be_served_is_told_in_words(
    side: ServingSide, tmp_path: Path
) -> None:
    side.add_package(3, (0.5, 0.5))
    (side.layout.version(3) / "model" / "saved_model.pb").write_bytes(b"torn")
    plan = side.propose({1: 100}, standby=(3,))
    wait_for(
        lambda: any("CrashLoopBackOff" in problem for problem in side.observation().problems),
        120,
        "the reason",
    )
    assert side.observation().generation >= plan.generation  # stable goes on meanwhile
