"""A version gets traffic when all of the data plane reaches it, and none where that has no host.

A server that this process finds ready may still be unknown to an Envoy elsewhere: names are
resolved and health is asked by each of them. Such an Envoy answers requests itself with 503.
"""

import time
from collections.abc import Callable, Collection, Mapping

from contract.errors import ServiceUnavailableError
from contract.records.traffic import TrafficPlan
from serving.traffic.backend import Version
from serving.traffic.reach import Reach

Hosts = Callable[[Collection[Version]], Mapping[Version, Reach]]

# Names are resolved and health is asked every second: nothing is told before.
_TELL_SECONDS = 5.0
# A name is resolved every second: one look that finds no host is no loss yet.
_LOST_SECONDS = 1.0


def anywhere(versions: Collection[Version]) -> Mapping[Version, Reach]:
    """Say nothing about any version, which counts as reached."""
    del versions
    return {}


class Reachability:
    """Decides, in each pass of the reconciler, what of a plan can be in force."""

    def __init__(self, hosts: Hosts, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts, self._clock = hosts, clock
        self._missed_since: dict[Version, float] = {}
        self._lost_since: dict[Version, float] = {}

    def are_reached(self, versions: Collection[Version], told: list[str]) -> bool:
        """Tell whether all of the data plane has a healthy host of each; say what is missing."""
        if not versions:
            return True
        try:
            found = self._hosts(versions)
        except ServiceUnavailableError as error:
            told.append(str(error))
            return False
        missed = {version: one for version, one in found.items() if one.healthy == 0}
        for version in versions:
            self._note(version, missed.get(version), told)
        return not missed

    def reached_part(self, plan: TrafficPlan, told: list[str]) -> TrafficPlan:
        """Return the plan, or what is left of it without a canary of which a part has no host."""
        canary = plan.canary
        if canary is None or canary.weight_percent == 0 or plan.champion is None:
            return plan
        version = (plan.pipeline, canary.version)
        try:
            one = self._hosts({version}).get(version)
        except ServiceUnavailableError:  # who cannot be asked is not known to have none
            return plan
        if one is None or not self._is_lost(version, one):
            return plan
        told.append(
            f"version {canary.version}: {one.lost_at} has no host of it: stable gets its traffic "
            "until it has one"
        )
        stable = [arm for arm in plan.arms if arm.version == plan.champion]
        arms = tuple(arm.model_copy(update={"weight_percent": 100}) for arm in stable)
        return plan.model_copy(update={"arms": arms})

    def _is_lost(self, version: Version, one: Reach) -> bool:
        if not one.lost_at:
            self._lost_since.pop(version, None)
            return False
        since = self._lost_since.setdefault(version, self._clock())
        return self._clock() - since >= _LOST_SECONDS

    def _note(self, version: Version, missed: Reach | None, told: list[str]) -> None:
        if missed is None:
            self._missed_since.pop(version, None)
            return
        since = self._missed_since.setdefault(version, self._clock())
        if (seconds := self._clock() - since) >= _TELL_SECONDS:
            told.append(
                f"version {version[1]} gets no traffic yet: {missed.at} has had no healthy host of "
                f"it for {seconds:.0f} s"
            )
