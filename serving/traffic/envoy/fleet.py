"""Counters of several Envoys as one: they only grow, whichever of them restarts or goes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from serving.traffic.backend import Version, VersionCounters

Counters = Mapping[Version, VersionCounters]


@dataclass
class _Seen:
    """What one Envoy counts of each version now, and what it counted before it began again."""

    uptime: int = 0
    now: dict[Version, VersionCounters] = field(default_factory=dict)
    before: dict[Version, VersionCounters] = field(default_factory=dict)


class FleetCounters:
    """Adds up what Envoys count, each from zero since its start."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def update(self, name: str, uptime: int, counters: Counters) -> None:
        """Take what one Envoy shows, `uptime` seconds after its start.

        Envoy's worker threads count while its counters are read one after the other, and copies
        turned away are taken off again, so that a sum may seem to fall: it stays then.
        """
        seen = self._seen.setdefault(name, _Seen())
        if uptime < seen.uptime:
            seen.before, seen.now = _sum(seen.before, seen.now), {}
        seen.uptime = uptime
        for version, now in counters.items():
            seen.now[version] = now.at_least(seen.now.get(version, VersionCounters()))

    def begin(self, versions: Iterable[Version]) -> None:
        """Count these versions from zero, on top of what was counted of them.

        Envoy forgets a version's counters with its clusters, so one that comes back, as after a
        roll-back, starts again.
        """
        for version in versions:
            for seen in self._seen.values():
                if (counters := seen.now.pop(version, None)) is not None:
                    seen.before = _sum(seen.before, {version: counters})

    def total(self) -> dict[Version, VersionCounters]:
        """Return the sum over all Envoys that ever were."""
        return _sum(*(part for seen in self._seen.values() for part in (seen.before, seen.now)))


def _sum(*parts: Counters) -> dict[Version, VersionCounters]:
    total: dict[Version, VersionCounters] = {}
    for part in parts:
        for version, counters in part.items():
            total[version] = total.get(version, VersionCounters()) + counters
    return total
