"""The backend that moves traffic with Envoy, however Envoy is told and wherever it runs."""

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from contract.errors import ServiceUnavailableError
from serving.traffic.backend import Capabilities, PipelineTraffic, Version, VersionCounters
from serving.traffic.envoy import stats as envoy_stats
from serving.traffic.envoy.admin import EnvoyAdmin
from serving.traffic.envoy.clusters import clusters
from serving.traffic.envoy.documents import LISTENER, ROUTES, Document, Kind, cluster_name
from serving.traffic.envoy.fleet import FleetCounters
from serving.traffic.envoy.listener import ListenerOptions, listener
from serving.traffic.envoy.membership import membership_filter, reach
from serving.traffic.envoy.routes import routes
from serving.traffic.reach import Reach

_POLL_SECONDS = 0.01
_MAX_PARALLEL = 8
_CLUSTERS_TAKEN_OVER = "cluster_manager.cds.version_text"
_ROUTES_TAKEN_OVER = f"http.{LISTENER}.rds.{ROUTES}.version_text"
_WARMING = "cluster_manager.warming_clusters"


class Channel(Protocol):
    """How documents reach Envoys, and which Envoys there are."""

    def source(self, kind: Kind) -> Document:
        """Return what an Envoy is configured with to get documents of a kind from here."""
        ...

    def current(self, kind: Kind) -> Sequence[Document]:
        """Return what is published of a kind."""
        ...

    def publish(self, kind: Kind, resources: Sequence[Document]) -> str:
        """Make these all that there is of a kind; return the version Envoy will call it by."""
        ...

    def instances(self) -> Sequence[EnvoyAdmin]:
        """Return every Envoy that takes documents from here.

        Raises:
            ServiceUnavailableError: If there is none.
        """
        ...


class Envoy:
    """A TrafficBackend of one Envoy or many that all do the same."""

    capabilities = Capabilities(weight_step_percent=1, max_arms=2, has_shadow=True)

    def __init__(
        self,
        channel: Channel,
        options: ListenerOptions,
        patience_seconds: float = 3.0,
        is_silent: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Wait for no Envoy of which `is_silent(its name)` says that it hangs.

        It serves nobody, and takes over what is published when it is started again.
        """
        self._channel = channel
        self._options = options
        self._is_silent = is_silent
        self._patience_seconds = patience_seconds
        self._counters = FleetCounters()
        self._pool = ThreadPoolExecutor(_MAX_PARALLEL, thread_name_prefix="envoy")

    def apply(self, traffic: Sequence[PipelineTraffic]) -> None:
        """See TrafficBackend. Clusters come before the routes that use them and go after."""
        wanted = {name: one for part in traffic for name, one in clusters(part).items()}
        current = {one["name"]: one for one in self._channel.current("clusters")}
        self._counters.begin(_versions_without(current, traffic))
        self._publish_clusters({**current, **wanted})
        version = self._channel.publish("routes", [routes(traffic, self._options)])
        door = listener(self._channel.source("routes"), self._options)
        self._channel.publish("listeners", [door])
        self._wait(_ROUTES_TAKEN_OVER, version)
        self._publish_clusters(wanted)

    def observe(self, pipeline: str = "") -> Mapping[Version, VersionCounters]:
        """See TrafficBackend. Copies that the shadow's cap turned away count for nothing."""
        texts = self._texts(envoy_stats.counters_filter(pipeline))
        for name, text in texts.items():
            self._counters.update(name, envoy_stats.uptime(text), envoy_stats.counters(text))
        active = _sum_of(envoy_stats.active(text) for text in texts.values())
        return {
            version: replace(counters, active=active.get(version, 0))
            for version, counters in self._counters.total().items()
        }

    def active_requests(self) -> Mapping[Version, int]:
        """See TrafficBackend."""
        texts = self._texts(envoy_stats.ACTIVE_FILTER)
        return _sum_of(envoy_stats.active(text) for text in texts.values())

    def hosts(self, versions: Collection[Version]) -> Mapping[Version, Reach]:
        """Return how far versions are reached.

        Raises:
            ServiceUnavailableError: If there is no Envoy, or one does not answer.
        """
        pattern, instances = membership_filter(versions), self._instances()
        gauges = self._pool.map(lambda one: one.values(pattern), instances)
        names = (one.name for one in instances)
        return reach(versions, dict(zip(names, gauges, strict=True)))

    def _publish_clusters(self, wanted: Mapping[str, Document]) -> None:
        version = self._channel.publish("clusters", [wanted[name] for name in sorted(wanted)])
        self._wait(_CLUSTERS_TAKEN_OVER, version)

    def _wait(self, stat: str, version: str) -> None:
        """Wait until every Envoy says that it has taken over a version."""
        deadline = time.monotonic() + self._patience_seconds
        while True:
            instances = self._instances()
            done = self._pool.map(lambda one: _has_taken_over(one, stat, version), instances)
            late = [one.name for one, is_done in zip(instances, done, strict=True) if not is_done]
            if not late:
                return
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"Envoy at {', '.join(late)} has not taken over {stat} within "
                    f"{self._patience_seconds:.0f} s; if it refused the configuration, its log "
                    "says why"
                )
            time.sleep(_POLL_SECONDS)

    def _instances(self) -> Sequence[EnvoyAdmin]:
        """Return the Envoys that do not hang; all of them where all do."""
        found = self._channel.instances()
        return [one for one in found if not self._is_silent(one.name)] or found

    def _texts(self, pattern: str) -> dict[str, str]:
        """Return what the Envoys that answer say; some of many may be ending."""
        instances = self._instances()
        answers = self._pool.map(lambda one: _said(one, pattern), instances)
        said = {one.name: answer for one, answer in zip(instances, answers, strict=True)}
        texts = {name: answer for name, answer in said.items() if isinstance(answer, str)}
        for problem in (answer for answer in said.values() if not isinstance(answer, str)):
            if not texts:
                raise problem
        return texts


def _versions_without(
    published: Collection[str], traffic: Sequence[PipelineTraffic]
) -> Iterator[Version]:
    for part in traffic:
        for version in part.endpoints:
            if cluster_name(part.plan.pipeline, version) not in published:
                yield part.plan.pipeline, version


def _sum_of(parts: Iterable[Mapping[Version, int]]) -> Counter[Version]:
    total = Counter[Version]()
    for part in parts:
        total.update(part)
    return total


def _has_taken_over(one: EnvoyAdmin, stat: str, version: str) -> bool:
    seen = one.values(rf"^{re.escape(stat)}$|^{re.escape(_WARMING)}$")
    return seen.get(stat) == version and seen.get(_WARMING, 0) == 0


def _said(one: EnvoyAdmin, pattern: str) -> str | ServiceUnavailableError:
    try:
        return one.prometheus(pattern)
    except ServiceUnavailableError as error:
        return error
