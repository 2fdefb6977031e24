"""What pods wait for is told as it happens, and ends where waiting cannot help."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from stub_api import StubApi, listed, pod

from contract.clients.cluster import Cluster
from contract.schema.cluster import KubernetesConfig, PodConfig
from launching.cluster import waiting
from launching.cluster.waiting import Waiting

SMALL_NODE = {"metadata": {}, "status": {"allocatable": {"cpu": "500m"}, "capacity": {}}}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}
FORBIDDEN = {"kind": "Status", "code": 403, "message": "nodes is forbidden"}


@pytest.fixture
def look_at(api: StubApi) -> Callable[..., tuple[str, list[str]]]:
    """Look as often as there are pods; return the last verdict and what was said."""

    def looked(*pods: dict[str, Any], name: str = "chief-0", **cluster: Any) -> Any:
        said: list[str] = []

        async def run() -> str:
            settings, verdict = api.cluster(**cluster), ""
            kubernetes = KubernetesConfig(
                clusters={"one": settings},
                default_cluster="one",
                pod=PodConfig(image="i:1"),
                pull_retry_seconds=0.1,
            )
            async with Cluster(settings) as connected:
                say = lambda level, text: said.append(f"{logging.getLevelName(level)} {text}")  # noqa: E731
                looking = Waiting(connected, kubernetes, say)
                for item in pods:
                    verdict = await looking.look({name: item})
                    await asyncio.sleep(0.15)
                await looking.close()
            return verdict

        return asyncio.run(run()), said

    return looked


def waiting_pod(reason: str, message: str = "", container: str = "main") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    made = pod(
        status={"phase": "Pending", "containerStatuses": [{"name": container, "state": state}]}
    )
    made["spec"]["nodeName"] = "n"
    made["spec"]["containers"][0]["name"] = container
    return made


RUNNING = pod(
    status={"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {}}}]}
)


@pytest.mark.parametrize("container", ["main", "tensorflow"])
def test_an_image_that_cannot_be_pulled_is_given_a_while_and_then_named(
    container: str, look_at: Any
) -> None:
    failing = waiting_pod("ErrImagePull", "registry says: manifest unknown", container)
    backing_off = waiting_pod("ImagePullBackOff", "Back-off pulling image", container)
    assert look_at(failing)[0] == ""
    verdict, said = look_at(failing, backing_off)
    assert verdict == (
        "[chief-0] pod job-chief-0 can never start: image i:1: ErrImagePull: registry says: "
        "manifest unknown (tried for 0 s)"
    )
    assert said == [
        "INFO [chief-0] waits for ErrImagePull: registry says: manifest unknown",
        "INFO [chief-0] waits for ImagePullBackOff: Back-off pulling image",
    ]


def test_a_pull_that_succeeds_after_all_starts_the_count_anew(look_at: Any) -> None:
    failing, creating = waiting_pod("ErrImagePull"), waiting_pod("ContainerCreating")
    assert look_at(failing, creating, failing)[0] == ""


NO_FOLDER = 'failed to create subPath directory for volumeMount "storage" of container "main"'


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerConfigError", NO_FOLDER),  # another pod made it at the same moment
        ("CreateContainerConfigError", 'secret "s" not found'),  # yet
        ("CreateContainerError", "context deadline exceeded"),
    ],
)
def test_a_container_that_could_not_be_created_is_tried_again_by_the_kubelet(
    reason: str, message: str, look_at: Any
) -> None:
    failing = waiting_pod(reason, message)
    verdict, said = look_at(failing, failing, RUNNING)
    assert verdict == ""
    assert said == [f"INFO [chief-0] waits for {reason}: {message}"]


def test_a_container_that_can_never_be_created_is_given_a_while_and_then_named(
    look_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_CREATION_SECONDS", 0.1)
    failing = waiting_pod("CreateContainerConfigError", 'secret "s" not found')
    assert look_at(failing)[0] == ""
    assert look_at(failing, failing)[0] == (
        "[chief-0] pod job-chief-0 can never start: image i:1: CreateContainerConfigError: "
        'secret "s" not found (tried for 0 s)'
    )


def test_pulls_and_creations_that_fail_have_a_while_each(
    look_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_CREATION_SECONDS", 0.1)
    pull, creation = waiting_pod("ErrImagePull"), waiting_pod("CreateContainerError")
    assert look_at(pull, creation, pull)[0] == ""


def event(uid: str, reason: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    about = {"kind": "Pod", "uid": uid}
    metadata = {"name": f"{uid}.{reason}"}
    return {"metadata": metadata, "involvedObject": about, "reason": reason, "type": kind} | {
        "message": message
    }


def test_the_events_of_waiting_pods_are_told_once_each(api: StubApi, look_at: Any) -> None:
    api.say(
        "GET",
        "events",
        listed(
            event("uid-job-chief-0", "FailedMount", 'configmap "x" not found'),
            event("uid-job-chief-0", "Pulling", "Pulling image", "Normal"),
            event("uid-job-chief-0", "Scheduled", "Successfully assigned", "Normal"),
            event("uid-of-another", "FailedMount", "of another job"),
        ),
    )
    creating = waiting_pod("ContainerCreating")
    _, said = look_at(creating, creating, creating, name="")
    assert said == [
        "INFO waits for ContainerCreating",
        'WARNING FailedMount: configmap "x" not found',
        "INFO Pulling: Pulling image",
    ]
    assert len(api.asked("GET", "events")) == 1
    assert api.asked("GET", "events")[0].query == {"fieldSelector": "involvedObject.kind=Pod"}


def test_an_account_that_may_not_see_events_is_told_so_once(api: StubApi, look_at: Any) -> None:
    api.say("GET", "events", FORBIDDEN)
    creating = waiting_pod("ContainerCreating")
    _, said = look_at(creating, creating, creating)
    assert [line for line in said if "pod events are not shown" in line] == said[1:]


def test_nothing_is_asked_while_all_run(api: StubApi, look_at: Any) -> None:
    assert look_at(RUNNING, RUNNING) == ("", [])
    assert not api.requests


PENDING = pod(status={"phase": "Pending", "conditions": [UNSCHEDULABLE]})


def test_what_no_node_can_ever_give_is_hopeless(api: StubApi, look_at: Any) -> None:
    api.say("GET", "nodes", listed(SMALL_NODE))
    verdict, _ = look_at(PENDING)
    assert verdict == (
        "[chief-0] pod job-chief-0 can never start: no node can ever give this: "
        "cpu: asked for 1, the largest node offers 500m"
    )


def test_an_autoscaled_cluster_may_add_the_node(api: StubApi, look_at: Any) -> None:
    api.say("GET", "nodes", listed(SMALL_NODE))
    assert look_at(PENDING, is_autoscaled=True)[0] == ""
    assert not api.asked("GET", "nodes")


def test_nodes_that_may_not_be_listed_are_told_of_and_asked_for_once(
    api: StubApi, look_at: Any
) -> None:
    api.say("GET", "nodes", FORBIDDEN)
    verdict, said = look_at(PENDING, PENDING)
    assert verdict == ""
    assert said[1].startswith("WARNING the account may not list nodes")
    assert len(api.asked("GET", "nodes")) == 1


def test_a_pod_made_anew_still_waits_for_what_the_scheduler_said_before(
    api: StubApi, look_at: Any
) -> None:
    room = {"allocatable": {"cpu": "8"}, "capacity": {}}
    api.say("GET", "nodes", listed({**SMALL_NODE, "status": room}))
    _, said = look_at(pod(), PENDING, pod(), PENDING)
    assert said == ["INFO [chief-0] waits for a node", "INFO [chief-0] waits for 0/1 nodes"]
