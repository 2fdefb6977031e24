"""The restart policy: what follows from which end."""

from typing import Any

import pytest

from contract.schema.cluster import JobConfig
from launching.job_spec import JobSpec, Replica
from launching.restarts import End, JobEnd, Restart, decide

CHIEF, WORKER, OTHER, PS = (
    Replica("chief", 0),
    Replica("worker", 0),
    Replica("worker", 1),
    Replica("ps", 0),
)


def make(**changes: Any) -> JobSpec:
    given = {
        "name": "j",
        "step": "train",
        "command": ("true",),
        "replicas": {"chief": 1, "worker": 2, "ps": 1},
        "settings": JobConfig(max_restarts=2, restart_backoff_seconds=3.0),
    }
    return JobSpec(**{**given, **changes})


ALL_REDUCE = make()
SERVERS = make(replaceable=frozenset({"worker"}))


def test_nothing_follows_from_nothing_and_from_a_worker_that_is_done() -> None:
    assert decide(ALL_REDUCE, [], {}) is None
    assert decide(ALL_REDUCE, [End(WORKER, 0)], {}) is None


def test_the_chiefs_success_is_the_jobs_whatever_became_of_the_others() -> None:
    end = decide(ALL_REDUCE, [End(WORKER, 137), End(CHIEF, 0)], {"worker": 2})
    assert isinstance(end, JobEnd)
    assert end.is_good


def test_an_all_reduce_starts_whole_again_after_one_loss() -> None:
    restart = decide(ALL_REDUCE, [End(WORKER, 137, "OOMKilled"), End(CHIEF, 1)], {})
    assert isinstance(restart, Restart)
    assert set(restart.replicas) == set(ALL_REDUCE.members())
    assert restart.used == {"worker": 1}  # the chief fell with it: one cause, one restart
    assert restart.reason == "worker-0: exit code 137 (OOMKilled)"


def test_of_several_failures_the_one_from_outside_is_the_cause_and_pays() -> None:
    restart = decide(ALL_REDUCE, [End(CHIEF, 1), End(WORKER, 137)], {"worker": 1})
    assert isinstance(restart, Restart)
    assert restart.reason == "worker-0: exit code 137"
    assert restart.used == {"worker": 2}


def test_a_worker_of_parameter_servers_is_replaced_alone() -> None:
    restart = decide(SERVERS, [End(OTHER, None, "deleted")], {})
    assert isinstance(restart, Restart)
    assert restart.replicas == (OTHER,)
    assert restart.reason == "worker-1: vanished (deleted)"


@pytest.mark.parametrize("lost", [PS, CHIEF])
def test_a_lost_parameter_server_or_chief_restarts_all(lost: Replica) -> None:
    restart = decide(SERVERS, [End(lost, 137)], {})
    assert isinstance(restart, Restart)
    assert len(restart.replicas) == 4


def test_the_wait_doubles_with_each_restart_of_the_role_up_to_a_minute() -> None:
    waits = []
    for used in range(2):
        restart = decide(ALL_REDUCE, [End(WORKER, 1)], {"worker": used})
        assert isinstance(restart, Restart)
        waits.append(restart.after_seconds)
    assert waits == [3.0, 6.0]
    patient = make(settings=JobConfig(max_restarts=50, restart_backoff_seconds=3.0))
    restart = decide(patient, [End(WORKER, 1)], {"worker": 40})
    assert isinstance(restart, Restart)
    assert restart.after_seconds == 60.0


def test_restarts_are_bounded_for_each_role_by_itself() -> None:
    end = decide(ALL_REDUCE, [End(WORKER, 1)], {"worker": 2})
    assert end == JobEnd(1, "worker-0: exit code 1; role 'worker' was restarted 2 times")
    assert isinstance(decide(ALL_REDUCE, [End(CHIEF, 1)], {"worker": 2}), Restart)


def test_a_users_mistake_ends_the_job_at_once() -> None:
    end = decide(ALL_REDUCE, [End(WORKER, 1), End(CHIEF, 2)], {})
    assert end == JobEnd(2, "chief-0: exit code 2")
