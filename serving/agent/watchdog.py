"""When a server or an Envoy that hangs is killed: soon, and later only after longer silences.

A machine that is short of CPU may silence a healthy server, too, and each further start costs such
a machine more than the silence does.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Generic

from serving.agent.health import Asked, HealthProber

# A server answers its health check from its event loop, in milliseconds, also under load.
_HUNG_SECONDS = 8.0
_HUNG_AT_START_SECONDS = 60.0
_MOST_SECONDS = 600.0
_LATELY_SECONDS = 3600.0


class Watchdog(Generic[Asked]):
    """Knows which servers were ended lately, and so how long the next silence may be."""

    def __init__(
        self, health: HealthProber[Asked, Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._health, self._clock = health, clock
        self._ended: dict[Asked, tuple[int, float]] = {}  # how often lately, and when last

    def hung_seconds(self, asked: Asked) -> float:
        """Return the silence for which a server is to be killed now; 0: it is not.

        Each time lately makes the next silence longer: 8, 60, 120, 240, ... 600 seconds.
        """
        silent = self._health.silent_seconds(asked)
        times, ended = self._ended.get(asked, (0, -math.inf))
        since_end = self._clock() - ended
        if since_end > _LATELY_SECONDS:
            times = 0
        patience = _HUNG_SECONDS if self._health.has_started(asked) else _HUNG_AT_START_SECONDS
        if times:
            patience = min(_HUNG_AT_START_SECONDS * 2.0 ** (times - 1), _MOST_SECONDS)
        if silent < patience or since_end < patience:
            return 0.0
        self._ended[asked] = (times + 1, self._clock())
        return silent
