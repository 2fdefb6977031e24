"""What one refusal of the API server costs: what it refuses, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_api import StubApi, listed, pod

from contract.schema.cluster import KubernetesConfig, PodConfig
from serving.agent.hosts.deployed_servers import DeployedServers, deployed_servers
from serving.agent.hosts.host import ServerSpec
from serving.agent.hosts.scale_repairs import ScaleRepairs
from serving.agent.hosts.server_objects import server_labels, server_name
from serving.traffic.backend import Version

DIGITS, CENSUS = ("digits", 3), ("census", 1)
DEPLOYMENTS = "apps/v1/deployments"
NAME = "slipway-digits-3"


@pytest.fixture
def servers(api: StubApi) -> Iterator[DeployedServers]:
    for kind in (DEPLOYMENTS, "pods"):
        api.say("GET", kind, listed())
    kubernetes = KubernetesConfig(
        clusters={"one": api.cluster()}, default_cluster="one", pod=PodConfig(image="serving:1")
    )
    with deployed_servers(kubernetes) as made:
        yield made


def deployment(version: Version, replicas: int, ready: int = 0) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": server_name(version), "labels": server_labels(version), "uid": "u"},
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": ready},
    }


def spec(version: Version, folder: Path) -> ServerSpec:
    return ServerSpec(*version, folder / "package", folder / "predictions", drain_seconds=1.0)


def start(api: StubApi, servers: DeployedServers, folder: Path, *versions: Version) -> None:
    """Start servers on an API server that takes all of it."""
    for version in versions:
        for kind in (DEPLOYMENTS, "services", "policy/v1/poddisruptionbudgets"):
            api.say("PATCH", kind, deployment(version, 2), server_name(version))
    api.say("GET", DEPLOYMENTS, listed(*(deployment(version, 2, ready=2) for version in versions)))
    for version in versions:
        servers.start(spec(version, folder))


def look(servers: DeployedServers) -> None:
    servers._thread.call(servers.look)


def test_a_repair_that_is_refused_is_that_versions_problem_and_all_else_is_seen(
    api: StubApi, servers: DeployedServers, tmp_path: Path
) -> None:
    start(api, servers, tmp_path, DIGITS, CENSUS)
    asked = len(api.asked("PATCH", DEPLOYMENTS, NAME))
    quota = {"code": 403, "message": "is forbidden: exceeded quota: pods"}
    api.say("PATCH", DEPLOYMENTS, quota, NAME)
    found = listed(deployment(DIGITS, 0), deployment(CENSUS, 2, ready=2))
    api.say("GET", DEPLOYMENTS, found)
    for _ in range(3):
        look(servers)
        assert servers.states().keys() == {DIGITS, CENSUS}
    words = f"its Deployment {NAME} was scaled to 0 replicas and is not set to 2 again yet: "
    problem = servers.states()[DIGITS].problem
    assert problem.startswith(words)
    assert "exceeded quota" in problem
    assert servers.states()[CENSUS].problem == ""
    assert len(api.asked("PATCH", DEPLOYMENTS, NAME)) == asked + 1, "the next one waits"


def test_a_repair_that_does_not_last_is_not_made_at_once_again(
    api: StubApi, servers: DeployedServers, tmp_path: Path
) -> None:
    start(api, servers, tmp_path, DIGITS)
    asked = len(api.asked("PATCH", DEPLOYMENTS, NAME))
    api.say("GET", DEPLOYMENTS, listed(deployment(DIGITS, 0)))
    for _ in range(3):
        look(servers)
    (repair,) = api.asked("PATCH", DEPLOYMENTS, NAME)[asked:]
    assert repair.body == {"spec": {"replicas": 2}}
    problem = servers.states()[DIGITS].problem
    assert problem.endswith("is not set to 2 again yet: the last repair did not last")


@pytest.mark.parametrize(("told", "over"), [((4.0, 0), (6.0, 2)), ((59.0, 1), (60.0, 1))])
def test_a_repair_is_told_until_all_are_ready_or_for_a_minute_where_one_is(
    api: StubApi,
    servers: DeployedServers,
    tmp_path: Path,
    told: tuple[float, int],
    over: tuple[float, int],
) -> None:
    now = [100.0]
    servers._repairs = ScaleRepairs(lambda: now[0])
    start(api, servers, tmp_path, DIGITS)
    api.say("GET", DEPLOYMENTS, listed(deployment(DIGITS, 1, ready=1)))
    look(servers)
    for (seconds, ready), words in [(told, "was scaled to 1 replicas: set to 2 again"), (over, "")]:
        api.say("GET", DEPLOYMENTS, listed(deployment(DIGITS, 2, ready)))
        now[0] = 100.0 + seconds
        look(servers)
        look(servers)  # what the first made of it
        assert servers.states()[DIGITS].problem == (words and f"its Deployment {NAME} {words}")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "is forbidden: exceeded quota: count/poddisruptionbudgets"),
        (403, "is forbidden: User cannot patch resource poddisruptionbudgets"),
        (404, "not found"),
        (422, "admission webhook denied the request"),
        (500, "failed calling webhook"),
    ],
)
def test_a_server_starts_without_a_disruption_budget_that_is_refused(
    api: StubApi,
    servers: DeployedServers,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
    said: str,
) -> None:
    budgets = "policy/v1/poddisruptionbudgets"
    for kind in (DEPLOYMENTS, "services"):
        api.say("PATCH", kind, deployment(DIGITS, 2), NAME)
    api.say("PATCH", budgets, {"code": status, "message": said}, NAME)
    api.say("GET", DEPLOYMENTS, listed(deployment(DIGITS, 2, ready=2)))
    servers.start(spec(DIGITS, tmp_path))
    assert servers.states()[DIGITS].is_kept
    servers.start(spec(DIGITS, tmp_path))
    (warning,) = [record.getMessage() for record in caplog.records if "Budget" in record.message]
    assert warning.startswith("digits: version 3 runs without a PodDisruptionBudget: cluster 'one'")
    assert said in warning


@pytest.mark.parametrize(("ready", "words"), [(0, "waits for a node: 1 Insufficient cpu"), (1, "")])
def test_a_second_pod_that_waits_for_a_node_is_a_problem_only_while_none_is_ready(
    api: StubApi, servers: DeployedServers, ready: int, words: str
) -> None:
    waits = {"type": "PodScheduled", "status": "False", "message": "1 Insufficient cpu"}
    metadata = {"labels": server_labels(DIGITS)}
    waiting = pod("digits-b", metadata=metadata, status={"conditions": [waits]})
    api.say("GET", "pods", listed(pod("digits-a", metadata=metadata), waiting))
    api.say("GET", DEPLOYMENTS, listed(deployment(DIGITS, 2, ready)))
    look(servers)
    assert servers.states()[DIGITS].problem == (words and f"its pod digits-b: {words}")


def test_a_second_pod_that_crashes_is_a_problem_also_while_the_first_is_ready(
    api: StubApi, servers: DeployedServers
) -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    status = {"containerStatuses": [{"name": "main", "state": state}]}
    crashing = pod("digits-b", metadata={"labels": server_labels(DIGITS)}, status=status)
    api.say("GET", "pods", listed(crashing))
    api.say("GET", DEPLOYMENTS, listed(deployment(DIGITS, 2, ready=1)))
    look(servers)
    problem = servers.states()[DIGITS].problem
    assert problem == "its pod digits-b: CrashLoopBackOff: back-off 10s"


def test_before_1_26_a_budget_says_nothing_of_pods_that_are_not_ready(
    api: StubApi, servers: DeployedServers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = "failed to create typed patch object: .spec.unhealthyPodEvictionPolicy: field not "
    refusal = {"code": 500, "message": f"{unknown}declared in schema"}
    budgets = "policy/v1/poddisruptionbudgets"
    for kind in (DEPLOYMENTS, "services"):
        api.say("PATCH", kind, deployment(DIGITS, 2), NAME)
    api.say("PATCH", budgets, [refusal, {"kind": "PodDisruptionBudget"}], NAME)
    servers.start(spec(DIGITS, tmp_path))
    asked = [request.body["spec"] for request in api.asked("PATCH", budgets, NAME)]
    assert [spec.get("unhealthyPodEvictionPolicy") for spec in asked] == ["AlwaysAllow", None]
    assert not [record for record in caplog.records if "Budget" in record.getMessage()]
