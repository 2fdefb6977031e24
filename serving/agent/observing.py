"""From the data plane's counters and the agent's own knowledge to an Observation."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from contract.records.traffic import ArmObservation, Observation
from serving.agent.disagreement import DisagreementCounter
from serving.traffic.backend import TrafficBackend, Version, VersionCounters


class Observer:
    """Says what is seen of a pipeline's versions now."""

    def __init__(
        self,
        backend: TrafficBackend,
        pairs: DisagreementCounter,
        is_ready: Callable[[Version], bool],
    ) -> None:
        self._backend = backend
        self._pairs = pairs
        self._is_ready = is_ready

    def observe(
        self, pipeline: str, generation: int, running: Iterable[Version], problems: Iterable[str]
    ) -> Observation:
        """Return the observation of the running versions.

        Raises:
            ServiceUnavailableError: If the data plane does not answer: no counts are better than
                counts of zero.
        """
        counters = self._backend.observe()
        return Observation(
            pipeline=pipeline,
            generation=generation,
            observed_at=datetime.now(UTC),
            versions=tuple(
                self._arm(version, counters.get(version, VersionCounters()))
                for version in sorted(running)
                if version[0] == pipeline
            ),
            problems=tuple(problems),
        )

    def _arm(self, version: Version, seen: VersionCounters) -> ArmObservation:
        compared, disagreements = self._pairs.counts(version)
        return ArmObservation(
            version=version[1],
            is_ready=self._is_ready(version),
            requests=seen.requests,
            errors=seen.errors,
            client_errors=seen.client_errors,
            active=seen.active,
            latency_bounds_ms=seen.latency_bounds_ms,
            latency_counts=seen.latency_counts,
            latency_total=seen.latency_total,
            compared=compared,
            disagreements=disagreements,
            refused_alone=self._pairs.refused_alone(version),
        )
