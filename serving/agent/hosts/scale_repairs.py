"""When a Deployment that somebody scales down is scaled up again: at once, later less and less."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.traffic.backend import Version

_LASTS_SECONDS = 60.0  # a repair that is undone sooner did not last
_FIRST_WAIT_SECONDS = 10.0
_MOST_SECONDS = 600.0
_MOST_TIMES = 10  # of doubling; by then the wait is the longest


@dataclass
class _Repairs:
    """When the last one was made, and how many in a row did not last.

    `due_at`: when the next is to be made; None while the Deployment has its replicas. `refusal`:
    why the last one was refused.
    """

    made_at: float = -math.inf
    times: int = 0
    due_at: float | None = None
    refusal: str = ""


class ScaleRepairs:
    """Knows, for each version, when its Deployment was scaled up, and when it may be again.

    Somebody, or another controller, may scale it down each time, without end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[Version, _Repairs] = {}

    def seconds_to_next(self, version: Version) -> float:
        """Return how long the repair of a Deployment that is scaled down has to wait; 0: now.

        Each one in a row that did not last makes the wait longer: 10, 20, 40, ... 600 seconds.
        """
        repairs, now = self._of.setdefault(version, _Repairs()), self._clock()
        if repairs.due_at is None:
            has_lasted = self.has_lasted(version)
            repairs.times = 0 if has_lasted else min(repairs.times + 1, _MOST_TIMES)
            wait = _FIRST_WAIT_SECONDS * 2.0 ** (repairs.times - 1) if repairs.times else 0.0
            repairs.due_at = now + min(wait, _MOST_SECONDS)
        return max(0.0, repairs.due_at - now)

    def has_lasted(self, version: Version) -> bool:
        """Tell whether the last repair was made a minute ago, or longer; True if there is none."""
        repairs = self._of.get(version)
        return repairs is None or self._clock() - repairs.made_at >= _LASTS_SECONDS

    def why_it_waits(self, version: Version) -> str:
        """Say why the next repair has to wait."""
        return self._of[version].refusal or "the last repair did not last"

    def begin(self, version: Version) -> None:
        """Note that a repair is made now."""
        repairs = self._of.setdefault(version, _Repairs())
        repairs.made_at, repairs.due_at, repairs.refusal = self._clock(), None, ""

    def refuse(self, version: Version, refusal: str) -> None:
        """Note that the repair which was begun was refused; it did not last, then."""
        self._of.setdefault(version, _Repairs()).refusal = refusal

    def has_its_replicas(self, version: Version) -> None:
        """Note that a Deployment is not scaled down now; what is seen next is another time."""
        if version in self._of:
            self._of[version].due_at = None

    def forget(self, version: Version) -> None:
        """Forget a version whose server is removed."""
        self._of.pop(version, None)
