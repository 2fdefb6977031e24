"""A trial's own traffic plan and state: what outlives its process, and who else may change it."""

import logging
from collections.abc import Callable

from components.deploy.canary.report import is_held, with_event
from components.deploy.canary.state import STATE_FILE, CanaryState
from components.deploy.canary.teller import Teller
from components.deploy.deployment import Deployment
from components.deploy.plans import is_same_traffic
from components.runs.agent_client import PlanConflictError
from contract.records.rollout import EventKind, RolloutEvent
from contract.records.traffic import Hold, TrafficPlan

log = logging.getLogger("slipway")

MakePlan = Callable[[TrafficPlan], TrafficPlan]


class InterruptedTrialError(Exception):
    """Somebody else has taken over the traffic plan; ours no longer counts."""


class Trial:
    """One version on trial: the plan is made and read here, and every change of state is kept."""

    def __init__(self, deployment: Deployment, state: CanaryState) -> None:
        self._d = deployment
        self._config = deployment.config.deploy
        self._path = deployment.output / STATE_FILE
        self.state = state
        self._hold: Hold | None = None
        self._weight_in_force: int | None = None
        self._teller = Teller(deployment)
        has_shadow = self._config.shadow_percent > 0 and self._config.shadow_requests > 0
        self._configured_phases = (*((0,) if has_shadow else ()), *self._config.rungs_percent)

    @property
    def _phases(self) -> tuple[int, ...]:
        """The canary's share in each phase; 0 is the shadow."""
        if not self.state.last_percent:
            return self._configured_phases
        return (*self._configured_phases[:-1], self.state.last_percent)

    @property
    def percent(self) -> int:
        """The canary's share of the traffic in this phase, or where it is held; 0 is the shadow."""
        if self._hold is not None:
            return self._hold.weight_percent
        return self._phases[min(self.state.phase, len(self._phases) - 1)]

    @property
    def _name(self) -> str:
        return f"{self.percent} %" if self.percent else "shadow"

    def _propose(self, make: MakePlan) -> TrafficPlan:
        """Put a plan in force that is made from the current one, and note it."""
        while True:
            self._d.check_attempt()
            current = self._own_plan()
            wanted = make(current)
            is_same_lease = current.lease_seconds == wanted.lease_seconds
            is_kept = is_same_traffic(current, wanted) and current.standby == wanted.standby
            if is_kept and is_same_lease:
                return current
            try:
                stored = self._d.client.propose(wanted)
            except PlanConflictError as conflict:
                log.info("%s", conflict)
                continue
            self._save(plan=stored)
            return stored

    def _own_plan(self) -> TrafficPlan:
        """Return the plan in force, if its traffic is still what this canary made it.

        After a kill between proposing and noting it, the plan in force is signed by this run.
        Others may change which further versions are on standby.
        """
        current = self._d.client.plan(self._d.layout.pipeline)
        if self._note_withdrawal(current) or (
            current.author == self._d.author or is_same_traffic(current, self.state.plan)
        ):
            self._take_hold(current)
            return current
        self._teller.tell_interrupted(self.state, current)
        raise InterruptedTrialError(
            f"{current.author or 'somebody'} changed the traffic plan (generation "
            f"{current.generation}: {current.reason or 'no reason given'}) while version "
            f"{self._d.version} was on trial; the trial stopped and did not change that plan"
        )

    def _take_hold(self, plan: TrafficPlan) -> None:
        """Note whether a person holds the trial, and where."""
        self._hold = plan.hold if plan.hold and plan.hold.version == self._d.version else None
        self._weight_in_force = plan.trial[1] if plan.trial else None
        if self._hold is not None and not is_held(self.state.events):
            reasons = filter(None, [f"by {self._hold.author or 'somebody'}", self._hold.reason])
            self._note("paused", ": ".join(reasons))
        elif self._hold is None and is_held(self.state.events):
            self._note("resumed")

    def _note_withdrawal(self, plan: TrafficPlan) -> bool:
        """Tell whether this trial was withdrawn, and nothing else happened; note it once."""
        gone = plan.withdrawn
        if gone is None or (gone.author, gone.version) != (self._d.author, self._d.version):
            return False
        noted = [event.at for event in self.state.events if event.kind == "withdrawn"]
        if gone.withdrawn_at not in noted:
            log.warning("%s: %s; it is tried again", self._d.layout.pipeline, gone.in_words)
            event = RolloutEvent(
                at=gone.withdrawn_at,
                kind="withdrawn",
                phase=self._name,
                weight_percent=0,
                words=f"by {gone.by}: {gone.reason}",
            )
            self._save(events=with_event(self.state.events, event))
        return True

    def _note(self, kind: EventKind, words: str = "") -> None:
        event = RolloutEvent(
            at=self._d.clock.now(),
            kind=kind,
            phase=self._name,
            weight_percent=self.percent,
            words=words,
        )
        self._save(events=with_event(self.state.events, event))

    def _save(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)
        self.state.write(self._path)
