"""What the end of a replica means for its job: the one policy of all launchers that we drive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, EXIT_USER_ERROR
from contract.schema.cluster import Role
from launching.job_spec import JobSpec, Replica

_LONGEST_BACKOFF_SECONDS = 60.0
_BY_SIGNAL = 128  # shells and container runtimes add the signal's number to it


@dataclass(frozen=True)
class End:
    """How a replica ended; without an exit code it vanished (deleted, evicted, its node lost)."""

    replica: Replica
    exit_code: int | None
    reason: str = ""

    @property
    def is_good(self) -> bool:
        return self.exit_code == EXIT_DONE

    @property
    def is_from_outside(self) -> bool:
        """Whether it did not end by itself: by a signal, or with its pod."""
        return self.exit_code is None or self.exit_code > _BY_SIGNAL

    def __str__(self) -> str:
        code = "vanished" if self.exit_code is None else f"exit code {self.exit_code}"
        return f"{self.replica}: {code}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Restart:
    """Start these replicas again, after a wait; `used` is the new count of restarts by role."""

    replicas: tuple[Replica, ...]
    used: Mapping[Role, int]
    after_seconds: float
    reason: str


@dataclass(frozen=True)
class JobEnd:
    """The job is over."""

    exit_code: int
    reason: str

    @property
    def is_good(self) -> bool:
        return self.exit_code == EXIT_DONE


def decide(job: JobSpec, ends: Sequence[End], used: Mapping[Role, int]) -> Restart | JobEnd | None:
    """Return what follows from the replicas that have ended, in the order in which they did.

    The chief decides the success. Exit code 2 (wrong config, code or data) ends the job at once: a
    restart cannot fix it. Of several failures the cause is the first that was killed or vanished:
    the others often fail by it, and may be seen to have ended before it is.

    Args:
        ends: Of this incarnation; those that were answered by a restart no longer count.
        used: Restarts so far, by role.
    """
    if any(end.replica == job.chief and end.is_good for end in ends):
        return JobEnd(EXIT_DONE, f"{job.chief} has ended well")
    failed = [end for end in ends if not end.is_good]
    wrong = next((end for end in failed if end.exit_code == EXIT_USER_ERROR), None)
    if wrong is not None:
        return JobEnd(EXIT_USER_ERROR, str(wrong))
    if not failed:
        return None
    cause = next((end for end in failed if end.is_from_outside), failed[0])
    role, count = cause.replica.role, used.get(cause.replica.role, 0)
    if count >= job.settings.max_restarts:
        return JobEnd(EXIT_UNEXPECTED, f"{cause}; role '{role}' was restarted {count} times")
    is_alone = all(end.replica.role in job.replaceable for end in failed)
    replicas = tuple(end.replica for end in failed) if is_alone else tuple(job.members())
    return Restart(
        replicas=replicas,
        used={**used, role: count + 1},
        after_seconds=min(
            job.settings.restart_backoff_seconds * 2**count, _LONGEST_BACKOFF_SECONDS
        ),
        reason=str(cause),
    )
