"""Envoys that hang: nobody waits for them, and those of this machine are replaced."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from contract.addresses import is_loopback
from contract.errors import ServiceUnavailableError
from serving.agent.health import TIMEOUT_SECONDS, Answer, HealthProber, answer_over
from serving.agent.watchdog import Watchdog
from serving.traffic.envoy.admin import EnvoyAdmin

log = logging.getLogger("slipway.agent")

# Plans wait no longer than this for one that takes connections and answers nothing.
_LEFT_OUT_SECONDS = 2.0
# Its main thread may be busy while its workers serve callers by the plan before. So where a kubelet
# ends one that hangs, it is waited for until then: three liveness probes of envoy.yaml.
KUBELETS_SECONDS = 30.0


class EnvoyKeeper:
    """Knows which Envoys hang, by asking all of them again and again."""

    def __init__(
        self,
        instances: Callable[[], Sequence[EnvoyAdmin]],
        end: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        left_out_seconds: float = _LEFT_OUT_SECONDS,
    ) -> None:
        """Ask these Envoys; `end(its name)` kills one, whose supervisor then starts another.

        Without `end` somebody else replaces those that hang, as the kubelet does with pods.
        """
        self._instances, self._end = instances, end
        self._left_out_seconds = left_out_seconds
        self._health = HealthProber(ask_envoy, clock)
        self._watchdog = Watchdog(self._health, clock)

    def look(self) -> None:
        """Ask every Envoy once, and kill those that have hung for too long."""
        try:
            found = self._instances()
            self._health.probe({one.name: one for one in found})
            for one in found:
                self._end_if_hung(one.name)
        except ServiceUnavailableError as error:  # who waits for an Envoy tells it
            log.debug("Envoys were not asked: %s", error)

    def is_silent(self, name: str) -> bool:
        """Tell whether an Envoy takes connections and has answered nothing for seconds."""
        return self._health.silent_seconds(name) >= self._left_out_seconds

    def _end_if_hung(self, name: str) -> None:
        if self._end is not None and (silent := self._watchdog.hung_seconds(name)):
            self._end(name)
            words = "Envoy at %s took connections for %.0f s and did not answer: it is replaced"
            log.warning(words, name, silent)


def ask_envoy(name: str, one: EnvoyAdmin) -> Answer:
    """Ask an Envoy's admin interface for its health.

    One elsewhere that cannot be reached may serve all the same: that is not silence.
    """
    del name
    connection = one.connection(TIMEOUT_SECONDS)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        # nobody takes what waits; Unix sockets say so by EAGAIN. On this machine only a process
        # that hangs is so slow
        is_hung = isinstance(error, TimeoutError | BlockingIOError) and _is_here(one)
        return "silent" if is_hung else "gone"
    return answer_over(connection, "/ready")


def _is_here(one: EnvoyAdmin) -> bool:
    return isinstance(one.place, Path) or is_loopback(one.place.host)
