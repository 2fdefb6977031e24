"""The state of a canary on storage, from which a killed one continues with its counts."""

from datetime import datetime
from typing import Literal

from components.deploy.judging.accounts import Accounts, Phase
from components.deploy.judging.evidence import Counts
from components.deploy.judging.whole_way import Rung, can_tell
from contract.records.record import Record
from contract.records.rollout import RolloutEvent
from contract.records.traffic import ArmObservation, LadderStep, TrafficPlan

STATE_FILE = "state.json"

Ending = Literal["", "passed", "rolled_back", "inconclusive"]


class CanaryState(Record):
    """The state after each look at the counters.

    `plan` is the last one that this canary read or made. A phase is the shadow (where there is
    one) or a rung. `is_entered` turns true when the data plane follows the phase's plan; from then
    on requests count. `ending` is written before the plan that it calls for, so that a canary
    killed in between ends as it was judged. `stakes_paid` is of how many phases the bets have their
    stakes; `outlook` says what was to be expected when the first rung was chosen, and
    `last_percent` is the canary's share on the last rung that was chosen then, 0 before. `events`
    are what people are shown of the way so far. `deaths` counts how often the version's server has
    died; `accounts_before` are the bets when the phase was entered, which then begin there again.
    """

    version: int
    champion: int
    plan: TrafficPlan
    phase: int = 0
    is_entered: bool = False
    spent_seconds: float = 0.0
    counted: Phase = Phase()
    accounts: Accounts = Accounts()
    stakes_paid: int = 0
    skipped: int = 0
    outlook: str = ""
    last_percent: int = 0
    last_seen: tuple[ArmObservation, ...] = ()
    ladder: tuple[LadderStep, ...] = ()
    ending: Ending = ""
    reason: str = ""
    decided_at: datetime | None = None
    events: tuple[RolloutEvent, ...] = ()
    server: str = ""
    deaths: int = 0
    accounts_before: Accounts | None = None

    @property
    def canary(self) -> Counts:
        """What was counted of the canary in this phase."""
        return self.counted.canary

    def telling_rungs(self, users: int) -> tuple[Rung, ...]:
        """Return what was counted on passed rungs of which the test of all rungs takes account."""
        return tuple(
            Rung(step.errors, step.requests, step.stable_errors, step.stable_requests)
            for step in self.ladder
            if step.weight_percent and can_tell(step.weight_percent, users)
        )

    def seen(self, version: int) -> ArmObservation | None:
        """Return the counters of a version at the last look."""
        return next((arm for arm in self.last_seen if arm.version == version), None)
