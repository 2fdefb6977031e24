"""Failing on purpose: the rehearsal of a roll-back."""

import itertools
import logging
from collections.abc import Callable

from serving.server.requests.errors import InjectedFaultError

log = logging.getLogger("slipway")

_FAULTS_PER_LOG_LINE = 100


class FaultInjector:
    """Fails every n-th prediction, evenly: exactly the share that was asked for."""

    def __init__(self, ratio: float, on_fault: Callable[[], None]) -> None:
        self._ratio = ratio
        self._on_fault = on_fault
        self._numbers = itertools.count(1)

    def maybe_fail(self) -> None:
        """Raise an InjectedFaultError if this prediction's turn has come."""
        if self._ratio <= 0.0:
            return
        number = next(self._numbers)
        faults = int(number * self._ratio)
        if faults == int((number - 1) * self._ratio):
            return
        self._on_fault()
        if faults % _FAULTS_PER_LOG_LINE == 1:
            log.warning("fault injected on purpose: %d of %d predictions", faults, number)
        raise InjectedFaultError(f"fault injected on purpose (serve.fault_ratio {self._ratio:g})")
