"""What was counted of a version since some moment, whatever happened to the counters meanwhile."""

from collections.abc import Sequence

from contract.records.record import Record
from contract.records.traffic import ArmObservation


class Counts(Record):
    """Events of one version in one phase of a deployment.

    `latency_counts` are cumulative, one for each of the rising bounds; what is slower than the
    last bound is in none of them.
    """

    requests: int = 0
    errors: int = 0
    latency_bounds_ms: tuple[float, ...] = ()
    latency_counts: tuple[int, ...] = ()
    compared: int = 0
    disagreements: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        bounds = other.latency_bounds_ms or self.latency_bounds_ms
        mine = self.latency_counts if self.latency_bounds_ms == bounds else ()
        theirs = other.latency_counts if other.latency_bounds_ms == bounds else ()
        return Counts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency_bounds_ms=bounds,
            latency_counts=_sum(mine, theirs, len(bounds)),
            compared=self.compared + other.compared,
            disagreements=self.disagreements + other.disagreements,
        )

    @property
    def error_ratio(self) -> float:
        """Errors over requests; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def timed(self) -> int:
        """How many requests the latency histogram holds."""
        return self.latency_counts[-1] if self.latency_counts else 0

    def latency_ms(self, quantile: float) -> float:
        """Return a latency quantile, linear within its bucket; 0 where nothing was timed.

        Source: the interpolation of Prometheus' `histogram_quantile`.
        """
        rank = quantile * self.timed
        lower_bound, lower_count = 0.0, 0
        for bound, count in zip(self.latency_bounds_ms, self.latency_counts, strict=True):
            if count >= rank and count > lower_count:
                share = (rank - lower_count) / (count - lower_count)
                return lower_bound + share * (bound - lower_bound)
            lower_bound, lower_count = bound, count
        return 0.0

    def slower_than(self, limit_ms: float) -> int:
        """Return how many requests were surely slower: those above the first bound >= limit."""
        for bound, count in zip(self.latency_bounds_ms, self.latency_counts, strict=True):
            if bound >= limit_ms:
                return self.timed - count
        return 0


def growth(before: ArmObservation | None, now: ArmObservation | None) -> Counts:
    """Return what was counted between two observations of one version.

    Counters that fell were set to zero in between (the data plane counts traffic, the agent counts
    pairs, and either may restart): then all that they show now is new. What was counted between
    the last look and the restart is lost.
    """
    if now is None:
        return Counts()
    nothing = ArmObservation(version=now.version, is_ready=False)
    traffic = nothing if before is None or _traffic_was_reset(before, now) else before
    pairs = nothing if before is None or _pairs_were_reset(before, now) else before
    return Counts(
        requests=now.requests - traffic.requests,
        errors=now.errors - traffic.errors,
        latency_bounds_ms=now.latency_bounds_ms,
        latency_counts=_rising(_difference(now.latency_counts, traffic.latency_counts)),
        compared=now.compared - pairs.compared,
        disagreements=now.disagreements - pairs.disagreements,
    )


def _pairs_were_reset(before: ArmObservation, now: ArmObservation) -> bool:
    return now.compared < before.compared or now.disagreements < before.disagreements


def _traffic_was_reset(before: ArmObservation, now: ArmObservation) -> bool:
    if before.latency_bounds_ms and before.latency_bounds_ms != now.latency_bounds_ms:
        return True
    pairs = [
        (before.requests, now.requests),
        (before.errors, now.errors),
        *zip(before.latency_counts, now.latency_counts, strict=False),
    ]
    return any(new < old for old, new in pairs)


def _difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    return [new - (before[i] if i < len(before) else 0) for i, new in enumerate(now)]


def _rising(counts: Sequence[int]) -> tuple[int, ...]:
    """Return cumulative counts that never fall (buckets may be read a moment apart)."""
    highest, rising = 0, []
    for count in counts:
        highest = max(highest, count)
        rising.append(highest)
    return tuple(rising)


def _sum(mine: Sequence[int], theirs: Sequence[int], length: int) -> tuple[int, ...]:
    padded = [list(c) or [0] * length for c in (mine, theirs)]
    return tuple(a + b for a, b in zip(*padded, strict=True))
