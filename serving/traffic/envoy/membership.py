"""Which hosts of versions Envoys know, from their own gauges."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from serving.traffic.backend import Version
from serving.traffic.envoy.documents import Use, cluster_name
from serving.traffic.reach import Reach

_USES: tuple[Use, ...] = ("arm", "shadow", "direct")
# The same hosts, found by each cluster for itself. Their health by gRPC's check does not count:
# where only that port is closed to Envoy, REST still goes on.
_GRPC_USES: tuple[Use, ...] = ("grpc", "grpc-shadow", "grpc-direct")
_HEALTHY, _KNOWN = "membership_healthy", "membership_total"


def membership_filter(versions: Collection[Version]) -> str:
    """Return the pattern of the gauges that `reach` needs."""
    uses = (*_USES, *_GRPC_USES)
    names = (cluster_name(*version, use) for version in sorted(versions) for use in uses)
    return rf"^cluster\.({'|'.join(names)})\.({_HEALTHY}|{_KNOWN})$"


def reach(
    versions: Collection[Version], gauges: Mapping[str, Mapping[str, Any]]
) -> dict[Version, Reach]:
    """Return how far each version is reached, by the gauges of each Envoy, by its name.

    A version has a cluster for each use, and each finds its hosts by itself: the poorest counts. An
    Envoy that does not have the clusters yet has no hosts; those of gRPC are expected of all
    Envoys where one has them.
    """
    found = {}
    for version in versions:
        clusters, of_grpc = _clusters(version, _USES), _clusters(version, _GRPC_USES)
        spoken = [one for one in of_grpc if any(f"{one}.{_KNOWN}" in g for g in gauges.values())]
        healthy = {
            name: min(_each(clusters, _HEALTHY, seen) + _each(spoken, _KNOWN, seen))
            for name, seen in gauges.items()
        }
        if not healthy:
            continue
        poorest = min(healthy, key=lambda name: healthy[name])
        lost = [
            name
            for name, seen in gauges.items()
            if all(f"{cluster}.{_KNOWN}" in seen for cluster in clusters)
            and not _fewest(clusters, _KNOWN, seen)
        ]
        lost_at = f"Envoy at {lost[0]}" if lost else ""
        found[version] = Reach(healthy[poorest], f"Envoy at {poorest}", lost_at)
    return found


def _clusters(version: Version, uses: Sequence[Use]) -> list[str]:
    return [f"cluster.{cluster_name(*version, use)}" for use in uses]


def _fewest(clusters: Sequence[str], gauge: str, seen: Mapping[str, Any]) -> int:
    return min(_each(clusters, gauge, seen))


def _each(clusters: Sequence[str], gauge: str, seen: Mapping[str, Any]) -> list[int]:
    return [int(seen.get(f"{cluster}.{gauge}", 0)) for cluster in clusters]
