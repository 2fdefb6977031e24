"""What the agent says of a pipeline's traffic, asked at most once a second for all who look."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from contract.errors import SlipwayError
from contract.records.rollout import Rollout
from contract.records.traffic import TrafficPlan

_FRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Traffic:
    """Who answers, and the last trial; or why neither is known."""

    plan: TrafficPlan | None = None
    rollout: Rollout | None = None
    problem: str = ""


Ask = Callable[[str], Traffic]


def nobody(_pipeline: str) -> Traffic:
    """Return what is known where there is no agent."""
    return Traffic(problem="No services are running here: the traffic is not known.")


class AgentView:
    """Asks the agent, one call at a time; meanwhile others get what was known before."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, Traffic]] = {}
        self._turn = threading.Lock()

    def of(self, pipeline: str) -> Traffic:
        """Return what the agent has said of a pipeline that exists."""
        until, found = self._known.get(pipeline, (0.0, Traffic()))
        if time.monotonic() < until or not self._turn.acquire(blocking=False):
            return found
        try:
            found = self._ask(pipeline)
        except SlipwayError as error:
            found = Traffic(problem=f"The traffic is not known: {error}")
        finally:
            self._turn.release()
        self._known[pipeline] = (time.monotonic() + _FRESH_SECONDS, found)
        return found
