"""Which processes of a job hang, by the records that its chief leaves."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from contract.errors import SlipwayError
from contract.records.training import Hang
from launching.job_spec import JobSpec, Replica


def hanging(job: JobSpec, started: Mapping[Replica, datetime]) -> dict[Replica, Hang]:
    """Return the replicas that hang, with the chief's record of each.

    A record of before a replica's start is about an earlier process of its role.

    Args:
        started: When each replica that runs was started, by the chief's clock or one near it.
    """
    found = {}
    for replica, since in started.items() if job.hangs else ():
        try:
            hang = Hang.read(Path(job.hangs) / f"{replica}.json")
        except SlipwayError:
            continue
        if hang.noted_at > since:
            found[replica] = hang
    return found
