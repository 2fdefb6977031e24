"""Pod statuses as a real API server gave them, cut down to what matters."""

from typing import Any

import pytest

from launching.cluster.pod_status import ended, has_node, has_started, is_hopeless, waits_for

UNSCHEDULABLE = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def make(phase: str, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    statuses = [{"name": "main", "state": state}] if state is not None else None
    node = {} if status.get("conditions") else {"nodeName": "n"}
    return {"spec": node, "status": {"phase": phase, "containerStatuses": statuses, **status}}


PENDING = make(
    "Pending",
    conditions=[{"type": "PodScheduled", "status": "False", "message": UNSCHEDULABLE}],
)
WAITING = make("Pending", {"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}})
CREATING = make("Pending", {"waiting": {"reason": "ContainerCreating"}})
RUNNING = make("Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
DONE = make("Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}})
KILLED = make("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
TENSORFLOW = {
    "status": {
        "phase": "Failed",
        "containerStatuses": [
            {"name": "istio-proxy", "state": {"terminated": {"exitCode": 0}}},
            {"name": "tensorflow", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}},
        ],
    }
}
FAILED = make("Failed", {"terminated": {"exitCode": 2, "reason": "Error"}})
EVICTED = make("Failed", reason="Evicted", message="The node was low on resource: memory.")


@pytest.mark.parametrize(
    ("pod", "how"),
    [
        (PENDING, None),
        (RUNNING, None),
        (DONE, (0, "")),
        (KILLED, (137, "OOMKilled")),
        (FAILED, (2, "")),
        (TENSORFLOW, (2, "")),
        (EVICTED, (None, "Evicted: The node was low on resource: memory.")),
    ],
)
def test_how_a_pod_ended(pod: dict[str, Any], how: tuple[int | None, str] | None) -> None:
    assert ended(pod) == how


@pytest.mark.parametrize(
    ("pod", "what", "node", "started", "hopeless"),
    [
        (PENDING, UNSCHEDULABLE, False, False, False),
        ({"spec": {}, "status": {"phase": "Pending"}}, "a node", False, False, False),
        (WAITING, "ErrImageNeverPull: not present", True, False, True),
        (CREATING, "ContainerCreating", True, False, False),
        (RUNNING, "", True, True, False),
        (KILLED, "", True, True, False),
        (EVICTED, "", True, True, False),
    ],
)
def test_what_a_pod_waits_for(
    pod: dict[str, Any], what: str, node: bool, started: bool, hopeless: bool
) -> None:
    assert waits_for(pod) == what
    assert (has_node(pod), has_started(pod), is_hopeless(pod)) == (node, started, hopeless)
