"""Whether the data plane reaches a version: of how many hosts of it each of its parts knows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """How many hosts of a version the data plane has, where it has the fewest.

    Attributes:
        healthy: Hosts that answer the health check of the part that has the fewest such.
        at: Which part that is, for people.
        lost_at: A part that follows a plan with the version and has no host of it at all, so that
            it answers requests itself; empty if there is none. One that has only just started and
            has no plan yet is not meant.
    """

    healthy: int
    at: str
    lost_at: str = ""
