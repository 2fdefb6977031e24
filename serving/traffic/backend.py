"""What a traffic backend is: the one door between TrafficPlan and whatever moves the traffic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from contract.records.traffic import TrafficPlan

Version = tuple[str, int]  # a pipeline's name and the number of one of its versions


@dataclass(frozen=True)
class Endpoint:
    """Where one version answers."""

    host: str
    port: int


@dataclass(frozen=True)
class PipelineTraffic:
    """What the data plane should do for one pipeline.

    `endpoints` holds every version that runs, those without weight too: each has a route of its
    own. Every arm and the shadow of `plan` must be among them.
    """

    plan: TrafficPlan
    endpoints: Mapping[int, Endpoint] = field(default_factory=dict)


@dataclass(frozen=True)
class Capabilities:
    """What a backend can express."""

    weight_step_percent: int
    max_arms: int
    has_shadow: bool


@dataclass(frozen=True)
class VersionCounters:
    """What the data plane counted for one version; cumulative, from zero when it restarts.

    `latency_counts[i]` is how many answers took less than `latency_bounds_ms[i]`.
    """

    requests: int = 0
    errors: int = 0
    latency_bounds_ms: tuple[float, ...] = ()
    latency_counts: tuple[int, ...] = ()


class TrafficBackend(Protocol):
    """Makes the data plane follow plans, and counts what it sees of them."""

    @property
    def capabilities(self) -> Capabilities:
        """What plans this backend can follow."""
        ...

    def apply(self, traffic: Sequence[PipelineTraffic]) -> None:
        """Make the data plane follow all of this and nothing else; return once it does.

        Idempotent: what is already so costs nothing.

        Raises:
            ServiceUnavailableError: If the data plane does not take it over in time. Callers then
                see the old state or a working state between; apply again.
        """
        ...

    def observe(self) -> Mapping[Version, VersionCounters]:
        """Return the counters by pipeline and version, as they are now.

        Raises:
            ServiceUnavailableError: If the data plane does not answer.
        """
        ...

    def active_requests(self) -> Mapping[Version, int]:
        """Return how many requests are under way, by pipeline and version."""
        ...
