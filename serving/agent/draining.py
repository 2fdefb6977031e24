"""When a server that no plan names may end: some time after its traffic, with nothing under way."""

import time
from collections.abc import Callable, Collection, Mapping

from serving.traffic.backend import Version


class Draining:
    """Keeps the time since each idle server was last needed."""

    def __init__(
        self,
        least_seconds: float,
        longest_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait at least `least_seconds`, then for requests under way, up to `longest_seconds`."""
        self._least_seconds = least_seconds
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._since: dict[Version, float] = {}
        self._over: frozenset[Version] = frozenset()

    def update(
        self, idle: Collection[Version], active_requests: Callable[[], Mapping[Version, int]]
    ) -> None:
        """Take note of who is idle; `active_requests` is asked only if it matters."""
        now = self._clock()
        self._since = {version: self._since.get(version, now) for version in idle}
        self._over &= frozenset(idle)
        waited = {v: now - since for v, since in self._since.items() if v not in self._over}
        due = {v for v, seconds in waited.items() if seconds >= self._least_seconds}
        late = {v for v, seconds in waited.items() if seconds >= self._longest_seconds}
        active = active_requests() if due - late else {}
        self._over |= late | {version for version in due if not active.get(version, 0)}

    def is_over(self, version: Version) -> bool:
        """Tell whether a server may end. Once True it stays so until it is needed again."""
        return version in self._over
