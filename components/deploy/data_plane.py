"""Waiting until the data plane does what the plan says."""

from collections.abc import Iterable

from components.deploy.deployment import SYSTEM_CLOCK, Clock
from components.runs.agent_client import AgentClient
from contract.records.traffic import TrafficPlan

# Short against the two seconds within which a rolled-back canary must be without traffic.
_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 0.2


def seconds_until_taken_over(
    client: AgentClient,
    plan: TrafficPlan,
    timeout_seconds: float,
    ready: Iterable[int] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> float | None:
    """Return how long it took until traffic follows the plan; None if it did not in time.

    The versions in `ready` must also answer, which matters for those without traffic. A newer plan
    that traffic follows already ends the wait too: callers look whose it is.
    """
    started, pause = clock.monotonic(), _FIRST_POLL_SECONDS
    while True:
        seen = client.observation(plan.pipeline)
        elapsed = clock.monotonic() - started
        are_ready = all((arm := seen.of(v)) is not None and arm.is_ready for v in ready)
        if seen.generation > plan.generation or (seen.generation == plan.generation and are_ready):
            return elapsed
        if elapsed >= timeout_seconds:
            return None
        clock.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)
