"""How many requests one token may send, and how many wrong tokens one address."""

import threading
from collections import OrderedDict

_MOST_KNOWN = 10_000  # of those who asked longest ago, nothing is kept


class Limit:
    """A bucket for each name: it is filled steadily, and each request takes one out."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, name: str, now: float) -> float:
        """Take one out; return 0, or how long it takes until there is one.

        Args:
            name: Of the token, or the address.
            now: Seconds of a clock that only rises.
        """
        with self._lock:
            filled, at = self._buckets.pop(name, (float(self._burst), now))
            filled = min(self._burst, filled + (now - at) * self._per_second)
            is_allowed = filled >= 1
            self._buckets[name] = (filled - 1 if is_allowed else filled, now)
            if len(self._buckets) > _MOST_KNOWN:
                self._buckets.popitem(last=False)
            return 0.0 if is_allowed else (1 - filled) / self._per_second
