"""An earlier champion answers for a champion that cannot, until the champion is back.

Neither the plan nor the routes change, only the address that the champion's requests are sent to,
so that requests which wait for it are answered, too. The version that stands in must be an earlier
champion, on standby and ready; a version that waits for its approval is not one. It is noted in a
file, so that a restarted agent does not send callers back to a server that it does not know yet.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from contract.errors import SlipwayError
from contract.records.record import Record
from contract.records.traffic import TrafficPlan
from serving.agent.health import HealthProber
from serving.traffic.backend import Endpoint, Version

log = logging.getLogger("slipway.agent")

# Callers of a killed server wait for its successor; this is about as long as a start takes, and
# many times the longest that a busy server was seen to be silent.
_DOWN_SECONDS = 3.0
_FAILED_START_SECONDS = 5.0
_FIRST_START_SECONDS = 30.0
# How long the champion must be ready to get its traffic back; longer if it has failed recently.
_BACK_SECONDS, _BACK_AGAIN_SECONDS = 2.0, 60.0
_RECENTLY_SECONDS = 600.0


class StandIn(Record):
    """One version answers for another."""

    champion: int = Field(description="Version of the plan, which does not answer.")
    version: int = Field(description="Version that answers instead.")
    since: datetime = Field(description="When this began.")

    @property
    def in_words(self) -> str:
        """The same as one clause."""
        return (
            f"version {self.champion}, the champion, does not answer; version {self.version} "
            f"answers in its place since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"
        )


class StandIns:
    """Decides, in each pass of the reconciler, who answers for whom."""

    def __init__(
        self,
        folder: Path,
        health: HealthProber[Version, Endpoint],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._health, self._clock = folder, health, clock
        self._found = {path.stem: _read(path) for path in folder.glob("*.json")}
        self._down_since: dict[Version, float] = {}
        self._ready_since: dict[Version, float] = {}
        self._ended: dict[Version, float] = {}  # when somebody last stood in for it

    def find(self, plan: TrafficPlan, problem: str) -> StandIn | None:
        """Return who answers for the champion of a plan now; None while that answers itself.

        Args:
            plan: What the data plane is to follow.
            problem: What is wrong with the champion's server or package, if anything is known.
        """
        champion, found = plan.champion, None
        if champion is not None:
            self._look((plan.pipeline, champion))
            current = self._found.get(plan.pipeline)
            if current is not None and current.champion == champion:
                found = self._kept(plan, current)
            elif self._is_out((plan.pipeline, champion), problem):
                found = self._chosen(plan, champion)
        if found is None:
            self._forget(plan.pipeline)
        return found

    def _look(self, champion: Version) -> None:
        now = self._clock()
        if self._health.is_ready(champion):
            self._down_since.pop(champion, None)
            self._ready_since.setdefault(champion, now)
        else:
            self._ready_since.pop(champion, None)
            self._down_since.setdefault(champion, now)

    def _is_out(self, champion: Version, problem: str) -> bool:
        if champion not in self._down_since:
            return False
        patience = _FAILED_START_SECONDS if problem else _FIRST_START_SECONDS
        if self._health.was_ready(champion):
            patience = _DOWN_SECONDS
        return self._clock() - self._down_since[champion] >= patience

    def _kept(self, plan: TrafficPlan, current: StandIn) -> StandIn | None:
        """Return who stands in from now on; None if the champion is back, or nobody can."""
        champion = (plan.pipeline, current.champion)
        now, ended = self._clock(), self._ended.get(champion)
        is_again = ended is not None and now - ended < _RECENTLY_SECONDS
        needed = _BACK_AGAIN_SECONDS if is_again else _BACK_SECONDS
        ready_since = self._ready_since.get(champion)
        if ready_since is not None and now - ready_since >= needed:
            log.warning("%s: version %d answers again", *champion)
            self._ended[champion] = now
            return None
        if current.version in plan.versions:
            return current
        return self._chosen(plan, current.champion)

    def _chosen(self, plan: TrafficPlan, champion: int) -> StandIn | None:
        for version in reversed(plan.lineage):
            is_free = version != champion and version in plan.standby
            if is_free and self._health.is_ready((plan.pipeline, version)):
                chosen = StandIn(champion=champion, version=version, since=datetime.now(UTC))
                chosen.write(self._path(plan.pipeline))
                self._found[plan.pipeline] = chosen
                return chosen
        return None

    def _forget(self, pipeline: str) -> None:
        if self._found.pop(pipeline, None) is not None:
            self._path(pipeline).unlink(missing_ok=True)

    def _path(self, pipeline: str) -> Path:
        return self._folder / f"{pipeline}.json"


def _read(path: Path) -> StandIn | None:
    try:
        return StandIn.read(path)
    except SlipwayError:  # damaged: it is decided again
        return None
