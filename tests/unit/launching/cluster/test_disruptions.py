"""A pod that somebody takes away is named so, and costs its role no restart."""

from typing import Any

import pytest
from stub_api import pod

from contract.schema.cluster import JobConfig, Role
from launching.cluster.disruptions import TakenEnd, end_of, what_follows
from launching.job_spec import JobSpec, Replica
from launching.restarts import End, JobEnd, Restart

JOB = JobSpec(
    name="j",
    step="train",
    command=("true",),
    replicas={"chief": 1, "worker": 2},
    replaceable=frozenset({"worker"}),
    settings=JobConfig(max_restarts=1, restart_backoff_seconds=3.0),
)
CHIEF, WORKER, OTHER = (Replica("chief", 0), Replica("worker", 0), Replica("worker", 1))
DELETED = "its pod was deleted by somebody, or with its node"


def ended_pod(exit_code: int | None, **status: Any) -> dict[str, Any]:
    terminated = {"exitCode": exit_code, "reason": "Error"}
    state = {"terminated": terminated} if exit_code is not None else {}
    found = {"phase": "Succeeded" if exit_code == 0 else "Failed", **status}
    return pod(status={**found, "containerStatuses": [{"name": "main", "state": state}]})


def deleted(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "metadata": {**one["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


RUNNING = pod(
    status={"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {}}}]}
)
EVICTION = {"reason": "Evicted", "message": "The node was low on resource: memory."}
PREEMPTION = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "default-scheduler: preempting to accommodate a higher priority pod",
}


# As older and newer kubelets say it, and what they say of storage on the node.
LOW = "The node was low on resource: memory. "
OWN_FAULTS = (
    f"{LOW}Container main was using 3Gi, which exceeds its request of 1Gi. ",
    f"{LOW}Container main was using 3Gi, request is 1Gi, has larger consumption of memory. ",
    'Container main exceeded its local ephemeral storage limit "1Gi". ',
    'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". ',
)
LOW_DISK = "The node was low on resource: ephemeral-storage. Container main was using 60Ki, "
LOW_DISK += "request is 0, has larger consumption of ephemeral-storage. "


def evicted(message: str) -> dict[str, Any]:
    """Return a pod that the kubelet evicted, as it is from Kubernetes 1.26 on."""
    said = {"reason": "TerminationByKubelet", "message": message}
    condition = {"type": "DisruptionTarget", "status": "True", **said}
    return ended_pod(None, reason="Evicted", message=message, conditions=[condition])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, DELETED),
        (evicted(LOW), f"TerminationByKubelet: {LOW}"),
        (evicted(LOW_DISK), f"TerminationByKubelet: {LOW_DISK}"),
        (deleted(RUNNING), DELETED),
        (deleted(ended_pod(143)), DELETED),
        (deleted(ended_pod(0)), DELETED),
        (ended_pod(None, **EVICTION), "Evicted: The node was low on resource: memory."),
        (
            ended_pod(137, conditions=[PREEMPTION]),
            f"PreemptionByScheduler: {PREEMPTION['message']}",
        ),
    ],
)
def test_who_takes_a_pod_away_is_told(found: dict[str, Any] | None, words: str) -> None:
    assert end_of(JOB, WORKER, found) == TakenEnd(WORKER, None, words)


@pytest.mark.parametrize(
    ("found", "end"),
    [
        (ended_pod(3), End(WORKER, 3, "")),
        (deleted(ended_pod(2)), End(WORKER, 2, "")),
        (
            ended_pod(
                None, reason="Evicted", message="Usage exceeds the total limit of containers 1Gi."
            ),
            End(WORKER, None, "Evicted: Usage exceeds the total limit of containers 1Gi."),
        ),
        *((evicted(words), End(WORKER, None, f"Evicted: {words}")) for words in OWN_FAULTS),
    ],
)
def test_what_a_process_did_itself_is_its_own(found: dict[str, Any], end: End) -> None:
    assert end_of(JOB, WORKER, found) == end
    assert not isinstance(end_of(JOB, WORKER, found), TakenEnd)


def test_a_pod_that_runs_has_not_ended_and_a_chief_that_is_done_is_done() -> None:
    assert end_of(JOB, WORKER, RUNNING) is None
    assert end_of(JOB, CHIEF, deleted(ended_pod(0))) == End(CHIEF, 0, "")


@pytest.mark.parametrize("most", [0, 1])
def test_a_pod_that_was_taken_away_is_started_again_however_often_that_was_so(most: int) -> None:
    settings = JOB.settings.model_copy(update={"max_restarts": most})
    job = JOB.model_copy(update={"settings": settings})
    used: dict[Role, int] = {"worker": most}  # all that there are
    follows = what_follows(job, [TakenEnd(OTHER, None, DELETED)], used, {})
    expected = Restart((OTHER,), used, 3.0, f"worker-1: vanished ({DELETED})")
    assert follows == expected


def test_one_that_is_taken_away_repeatedly_waits_twice_as_long_each_time_up_to_a_minute() -> None:
    waits = []
    for times in (0, 1, 2, 3, 4, 5, 10_000):
        ends = [TakenEnd(OTHER, None, DELETED)]
        follows = what_follows(JOB, ends, {}, {"worker-0": 7, "worker-1": times})
        assert isinstance(follows, Restart)
        waits.append(follows.after_seconds)
    assert waits == [3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0]


def test_who_falls_by_it_costs_nothing_either_and_is_not_the_cause() -> None:
    ends = [End(CHIEF, 1, "a peer is gone"), TakenEnd(OTHER, None, DELETED)]
    follows = what_follows(JOB, ends, {"chief": 1, "worker": 1}, {})
    assert isinstance(follows, Restart)
    assert set(follows.replicas) == {CHIEF, WORKER, OTHER}
    assert (follows.used, follows.reason) == (
        {"chief": 1, "worker": 1},
        f"worker-1: vanished ({DELETED})",
    )


def test_a_process_that_fails_by_itself_uses_restarts_up() -> None:
    follows = what_follows(JOB, [End(OTHER, 137, "OOMKilled")], {}, {})
    assert isinstance(follows, Restart)
    assert follows.used == {"worker": 1}
    end = what_follows(JOB, [End(OTHER, 137, "OOMKilled")], {"worker": 1}, {})
    assert isinstance(end, JobEnd)
    assert end.exit_code == 1


def test_success_and_a_users_mistake_end_the_job_all_the_same() -> None:
    gone = TakenEnd(OTHER, None, DELETED)
    good = what_follows(JOB, [gone, End(CHIEF, 0)], {}, {})
    assert isinstance(good, JobEnd)
    assert good.is_good
    assert what_follows(JOB, [gone, End(WORKER, 2)], {}, {}) == JobEnd(2, "worker-0: exit code 2")
    assert what_follows(JOB, [], {}, {}) is None
