"""Pods that somebody else takes away: a person, a drained node, the scheduler, the kubelet.

The process in such a pod did nothing wrong. So this is named as what it was, and does not use up
the restarts of its role, which are for processes that fail by themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contract.errors import EXIT_DONE, EXIT_USER_ERROR
from contract.schema.cluster import Role
from launching.cluster.pod_status import Manifest, ended
from launching.job_spec import JobSpec, Replica
from launching.restarts import End, JobEnd, Restart, decide

# `status.reason` of a failed pod that its own process did not end.
_TAKEN = frozenset({"Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"})
_DELETED = "its pod was deleted by somebody, or with its node"
_BEFORE_ANY = -1  # restarts used: there is room for one more, also where none is allowed
# In the words of the kubelet's evictions: the pod passed a limit, or its request of memory, itself.
_OWN_FAULTS = ("exceeds ", "exceeded its ", "has larger consumption of memory")
_BY_KUBELET = "TerminationByKubelet"  # the reason of such a condition, from Kubernetes 1.26 on
_LONGEST_WAIT_SECONDS = 60.0
_MOST_DOUBLINGS = 16


@dataclass(frozen=True)
class TakenEnd(End):
    """The end of a replica whose pod somebody else took away."""


def taken(pod: Manifest) -> str:
    """Say who takes or took a pod away, as far as it shows; empty if nobody does."""
    status, metadata = pod.get("status", {}), pod.get("metadata", {})
    for condition in status.get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            is_own = condition.get("reason") == _BY_KUBELET and _is_own_fault(condition)
            return "" if is_own else _words(condition)
    if status.get("phase") == "Failed" and status.get("reason") in _TAKEN:
        return "" if _is_own_fault(status) else _words(status)
    if metadata.get("deletionTimestamp"):
        return _DELETED
    return ""


def end_of(job: JobSpec, replica: Replica, pod: Manifest | None) -> End | None:
    """Return how a replica ended, by its pod as it is now (None: gone); None while it runs on.

    A pod that is on its way out counts as ended: nothing can keep it.
    """
    if pod is None:
        return TakenEnd(replica, None, _DELETED)
    how, words = ended(pod), taken(pod)
    if how is None:
        return TakenEnd(replica, None, words) if words else None
    code, reason = how
    is_done = code == EXIT_DONE and replica == job.chief
    if not words or is_done or code == EXIT_USER_ERROR:
        return End(replica, code, reason)
    return TakenEnd(replica, None, words)


def what_follows(
    job: JobSpec, ends: Sequence[End], used: Mapping[Role, int], rounds: Mapping[str, int]
) -> Restart | JobEnd | None:
    """Return what `decide` does, but that a pod which was taken away costs no restart.

    It waits as long as others do: twice as long each time, up to a minute.

    Args:
        ends: As for `decide`.
        used: Restarts so far, by role.
        rounds: How often each replica was started again so far, for whatever reason.
    """
    decision = decide(job, ends, used)
    cause = next((end for end in ends if not end.is_good and end.is_from_outside), None)
    if not isinstance(cause, TakenEnd) or decision is None:
        return decision
    if isinstance(decision, JobEnd) and (decision.is_good or decision.exit_code == EXIT_USER_ERROR):
        return decision
    again = decide(job, ends, {**used, cause.replica.role: _BEFORE_ANY})
    if not isinstance(again, Restart):
        return again
    times = min(rounds.get(str(cause.replica), 0), _MOST_DOUBLINGS)
    wait = min(job.settings.restart_backoff_seconds * 2.0**times, _LONGEST_WAIT_SECONDS)
    return replace(again, used=used, after_seconds=wait)


def _is_own_fault(said: Mapping[str, Any]) -> bool:
    return any(words in said.get("message", "") for words in _OWN_FAULTS)


def _words(said: Mapping[str, Any]) -> str:
    parts = (said.get("reason", ""), said.get("message", ""))
    return ": ".join(part for part in parts if part)
