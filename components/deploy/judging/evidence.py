"""What was counted of a version since some moment, whatever happened to the counters meanwhile."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from operator import add, lt, sub

from contract.records.traffic import ArmObservation


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one version in one phase of a deployment.

    `latency_counts` are cumulative, one for each of the rising bounds; what is slower than the
    last bound is in none of them, only in `latency_total`. `active` is not a sum: it is how many
    requests are under way now. `disagreements` is a sum of shares, one for each compared request.
    `refused_alone` are requests that the version refused (4xx) and stable answered, those of
    `abandoned` had callers that left before the answer: both are among `errors`, too. `unreached`
    are in none of the others: the data plane knew no host of the version.
    """

    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    active: int = 0
    latency_bounds_ms: tuple[float, ...] = ()
    latency_counts: tuple[int, ...] = ()
    latency_total: int = 0
    compared: int = 0
    disagreements: float = 0.0
    refused_alone: int = 0
    abandoned: int = 0
    unreached: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        bounds = other.latency_bounds_ms or self.latency_bounds_ms
        mine = self if self.latency_bounds_ms == bounds else Counts()
        theirs = other if other.latency_bounds_ms == bounds else Counts()
        return Counts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            client_errors=self.client_errors + other.client_errors,
            active=other.active,
            latency_bounds_ms=bounds,
            latency_counts=_sum(mine.latency_counts, theirs.latency_counts, len(bounds)),
            latency_total=mine.latency_total + theirs.latency_total,
            compared=self.compared + other.compared,
            disagreements=self.disagreements + other.disagreements,
            refused_alone=self.refused_alone + other.refused_alone,
            abandoned=self.abandoned + other.abandoned,
            unreached=self.unreached + other.unreached,
        )

    def since(self, before: "Counts") -> "Counts":
        """Return what was counted since an earlier state of these counts."""
        is_same = self.latency_bounds_ms == before.latency_bounds_ms
        start = before if is_same else Counts()
        return Counts(
            requests=self.requests - before.requests,
            errors=self.errors - before.errors,
            client_errors=self.client_errors - before.client_errors,
            active=self.active,
            latency_bounds_ms=self.latency_bounds_ms,
            latency_counts=_difference(self.latency_counts, start.latency_counts),
            latency_total=self.latency_total - start.latency_total,
            compared=self.compared - before.compared,
            disagreements=self.disagreements - before.disagreements,
            refused_alone=self.refused_alone - before.refused_alone,
            abandoned=self.abandoned - before.abandoned,
            unreached=self.unreached - before.unreached,
        )

    @property
    def error_ratio(self) -> float:
        """Errors over requests; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def client_error_ratio(self) -> float:
        """Answers with status 4xx over requests; 0 without requests."""
        return self.client_errors / self.requests if self.requests else 0.0

    @property
    def timed(self) -> int:
        """How many answers were timed, those slower than the last bound among them."""
        return max(self.latency_total, self.latency_counts[-1] if self.latency_counts else 0)

    def latency_ms(self, quantile: float) -> float:
        """Return a latency quantile, linear within its bucket; 0 where nothing was timed.

        Beyond the last bound it is that bound.

        Source: the interpolation of Prometheus' `histogram_quantile`.
        """
        rank, counts = quantile * self.timed, self.latency_counts
        place = bisect_left(counts, rank) if rank else bisect_right(counts, 0)
        if place == len(counts):
            return self.latency_bounds_ms[-1] if self.timed and counts else 0.0
        lower_bound, lower_count = self._below(place)
        share = (rank - lower_count) / (counts[place] - lower_count)
        return lower_bound + share * (self.latency_bounds_ms[place] - lower_bound)

    def slower_than(self, limit_ms: float) -> float:
        """Return how many answers were slower, linear within the limit's bucket.

        What is above the last bound is slow, whatever the limit.
        """
        place = bisect_left(self.latency_bounds_ms, limit_ms)
        lower_bound, lower_count = self._below(place)
        if place == len(self.latency_counts):
            return float(self.timed - lower_count)
        share = (limit_ms - lower_bound) / (self.latency_bounds_ms[place] - lower_bound)
        return self.timed - lower_count - share * (self.latency_counts[place] - lower_count)

    def _below(self, place: int) -> tuple[float, int]:
        """Return the lower bound of a bucket, and how many answers took less."""
        if not place:
            return 0.0, 0
        return self.latency_bounds_ms[place - 1], self.latency_counts[place - 1]


def growth(before: ArmObservation | None, now: ArmObservation | None) -> Counts:
    """Return what was counted between two observations of one version.

    Counters that fell were set to zero in between (the data plane counts traffic, the agent counts
    pairs, and either may restart): then all that they show now is new. What was counted between
    the last look and the restart is lost.
    """
    if now is None:
        return Counts()
    traffic = _NOTHING if before is None or _traffic_was_reset(before, now) else before
    pairs = _NOTHING if before is None or _pairs_were_reset(before, now) else before
    refused_alone = now.refused_alone - pairs.refused_alone
    abandoned = now.abandoned - traffic.abandoned
    return Counts(
        requests=now.requests - traffic.requests + abandoned,
        errors=now.errors - traffic.errors + refused_alone + abandoned,
        client_errors=now.client_errors - traffic.client_errors,
        active=now.active,
        latency_bounds_ms=now.latency_bounds_ms,
        latency_counts=_difference(now.latency_counts, traffic.latency_counts),
        latency_total=now.latency_total - traffic.latency_total,
        compared=now.compared - pairs.compared,
        disagreements=now.disagreements - pairs.disagreements,
        refused_alone=refused_alone,
        abandoned=abandoned,
        unreached=now.unreached - traffic.unreached,
    )


_NOTHING = ArmObservation(version=0, is_ready=False)  # of any version


def _pairs_were_reset(before: ArmObservation, now: ArmObservation) -> bool:
    return (
        now.compared < before.compared
        or now.disagreements < before.disagreements
        or now.refused_alone < before.refused_alone
    )


def _traffic_was_reset(before: ArmObservation, now: ArmObservation) -> bool:
    if before.latency_bounds_ms and before.latency_bounds_ms != now.latency_bounds_ms:
        return True
    return (
        now.requests < before.requests
        or now.errors < before.errors
        or now.client_errors < before.client_errors
        or now.abandoned < before.abandoned
        or now.unreached < before.unreached
        or now.latency_total < before.latency_total
        or any(map(lt, now.latency_counts, before.latency_counts))
    )


def _difference(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    """Return cumulative counts that never fall (buckets may be read a moment apart)."""
    return tuple(accumulate(map(sub, now, before) if before else now, max))


def _sum(mine: tuple[int, ...], theirs: tuple[int, ...], length: int) -> tuple[int, ...]:
    if not mine or not theirs:
        return mine or theirs or (0,) * length
    return tuple(map(add, mine, theirs))
