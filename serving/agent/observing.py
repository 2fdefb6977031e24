"""From the data plane's counters and the agent's own knowledge to an Observation."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from contract.records.traffic import ArmObservation, Observation, TrafficPlan
from serving.agent.disagreement import DisagreementCounter
from serving.agent.hosts.host import ServerState
from serving.agent.unreached import UnreachedTeller
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
        self._unreached = UnreachedTeller()

    def observe(
        self,
        plan: TrafficPlan,
        running: Mapping[Version, ServerState],
        problems: Iterable[str],
    ) -> Observation:
        """Return the observation of the running versions.

        Args:
            plan: What the data plane follows.
            running: The versions that run, of all pipelines.
            problems: Those of the pipeline that are known already.

        Raises:
            ServiceUnavailableError: If the data plane does not answer: no counts are better than
                counts of zero.
        """
        pipeline, counters = plan.pipeline, self._backend.observe(plan.pipeline)
        now = datetime.now(UTC)
        return Observation(
            pipeline=pipeline,
            generation=plan.generation,
            observed_at=now,
            versions=tuple(
                self._arm(version, counters.get(version, VersionCounters()), running[version])
                for version in sorted(running)
                if version[0] == pipeline
            ),
            problems=(*problems, *self._refusals(plan, counters, now)),
        )

    def _refusals(
        self, plan: TrafficPlan, counters: Mapping[Version, VersionCounters], now: datetime
    ) -> Iterator[str]:
        """Yield a problem if the version with most traffic gets requests that find no host."""
        if plan.arms:
            most = max(plan.arms, key=lambda arm: arm.weight_percent).version
            version = (plan.pipeline, most)
            unreached = counters.get(version, VersionCounters()).unreached
            if words := self._unreached.words(version, unreached, now):
                yield words

    def _arm(self, version: Version, seen: VersionCounters, state: ServerState) -> ArmObservation:
        compared, disagreements = self._pairs.counts(version)
        return ArmObservation(
            version=version[1],
            is_ready=self._is_ready(version),
            server=state.process,
            requests=seen.requests,
            errors=seen.errors,
            client_errors=seen.client_errors,
            active=seen.active,
            unreached=seen.unreached,
            abandoned=seen.abandoned,
            latency_bounds_ms=seen.latency_bounds_ms,
            latency_counts=seen.latency_counts,
            latency_total=seen.latency_total,
            compared=compared,
            disagreements=disagreements,
            refused_alone=self._pairs.refused_alone(version),
        )
