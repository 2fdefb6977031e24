"""The way of a new version through shadow and ladder, with the judge at every look."""

import logging
from collections.abc import Callable
from pathlib import Path

from components.agent_client import PlanConflictError
from components.deploy.data_plane import seconds_until_taken_over
from components.deploy.deployment import Deployment
from components.deploy.evidence import Counts, growth
from components.deploy.judge import Judgement, Rung, judge_rung, judge_shadow, judge_unpaired_shadow
from components.deploy.plans import (
    Note,
    is_same_traffic,
    on_standby,
    with_canary,
    with_shadow,
    without_trial,
)
from components.deploy.state import STATE_FILE, CanaryState, Ending
from components.deploy.stopping import StoppedError, stops_on_sigterm
from contract.records.traffic import ArmObservation, LadderStep, Observation, Shadow, TrafficPlan

log = logging.getLogger("slipway")

# Between two looks: at 200 canary requests a second, 50 requests more than were needed.
_LOOK_SECONDS = 0.25
_PROGRESS_SECONDS = 5.0
# A server loads and warms its model in seconds; one that needs minutes is broken.
READY_TIMEOUT_SECONDS = 300.0
TAKE_OVER_TIMEOUT_SECONDS = 30.0
_LADDER_DECISION = {"pass": "pass", "fail": "rollback", "continue": "inconclusive"}

MakePlan = Callable[[TrafficPlan], TrafficPlan]


class InterruptedTrialError(Exception):
    """Somebody else has taken over the traffic plan; ours no longer counts."""


class Canary:
    """Walks one version up the ladder. All that it knows is in its state file."""

    def __init__(self, deployment: Deployment, state: CanaryState) -> None:
        self._d = deployment
        self._config = deployment.config.deploy
        self._path: Path = deployment.output / STATE_FILE
        self.state = state
        self.withdrawal_seconds: float | None = None
        # The agent compares logged classes; a pipeline without either is judged by its errors.
        heads = deployment.config.heads.values()
        self._has_pairs = deployment.config.serve.prediction_log_ratio > 0 and any(
            head.task != "regression" for head in heads
        )
        has_shadow = self._config.shadow_percent > 0 and self._config.shadow_requests > 0
        self._phases = ((0,) if has_shadow else ()) + self._config.ladder_percent

    def walk(self) -> CanaryState:
        """Go on from the state until the version has passed, failed or run out of time.

        Raises:
            InterruptedTrialError: If somebody else changed the traffic; the plan stays theirs.
            StoppedError: On SIGTERM; stable has all traffic until a retry goes on from here.
            ConflictError: If a later attempt at this step has taken over.
            ServiceUnavailableError: If the agent is away for long; a retry goes on from here.
        """
        try:
            with stops_on_sigterm():
                while not self.state.ending and self.state.phase < len(self._phases):
                    self._walk_phase()
        except StoppedError:
            self._pause()
            raise
        if not self.state.ending:
            self._save(ending="passed")
        if self.state.ending != "passed":
            self._withdraw()
        elif self._config.requires_approval:
            self._hold_for_approval()
        return self.state

    # --- one phase ------------------------------------------------------------------------------

    def _walk_phase(self) -> None:
        if not self.state.is_entered and not self._enter():
            self._end_phase(
                Judgement(
                    "continue", f"version {self._d.version} was not ready for traffic in time"
                )
            )
            return
        self._end_phase(self._watch())

    def _enter(self) -> bool:
        """Put the phase's plan in force; tell whether the data plane has taken it over in time."""
        log.info("%s: version %d goes to %s", self._d.layout.pipeline, self._d.version, self._name)
        plan = self._propose(lambda current: self._plan_at(current, self.percent))
        seconds = seconds_until_taken_over(
            self._d.client,
            plan,
            min(READY_TIMEOUT_SECONDS, self._config.timeout_seconds),
            [self._d.version],
            self._d.clock,
        )
        if seconds is None:
            return False
        seen = self._d.client.observation(self._d.layout.pipeline)
        self._save(is_entered=True, last_seen=self._both(seen))
        return True

    def _plan_at(self, current: TrafficPlan, percent: int) -> TrafficPlan:
        note = Note(self._d.author, f"{self._name} of version {self._d.version}")
        if percent:
            return with_canary(current, self._d.version, percent, note)
        shadow = Shadow(
            version=self._d.version,
            percent=self._config.shadow_percent,
            max_concurrent_requests=self._config.shadow_max_concurrent_requests,
        )
        return with_shadow(current, shadow, note)

    def _watch(self) -> Judgement:
        """Look and judge until there is a decision or no time left."""
        last_look = last_words = self._d.clock.monotonic()
        while True:
            seen = self._look()
            judgement = self._judge()
            now = self._d.clock.monotonic()
            self._save(
                spent_seconds=self.state.spent_seconds + now - last_look,
                phase_seconds=self.state.phase_seconds + now - last_look,
            )
            last_look = now
            if judgement.decision != "continue":
                return judgement
            if self.state.spent_seconds >= self._config.timeout_seconds:
                return judgement
            if now - last_words >= _PROGRESS_SECONDS:
                last_words = now
                self._say_progress(judgement, seen)
            self._d.clock.sleep(_LOOK_SECONDS)

    def _look(self) -> Observation:
        self._d.check_attempt()
        self._own_plan()
        seen = self._d.client.observation(self._d.layout.pipeline)
        grown = [
            growth(self.state.seen(version), seen.of(version))
            for version in (self._d.version, self.state.champion)
        ]
        self.state = self.state.model_copy(
            update={
                "canary": self.state.canary + grown[0],
                "stable": self.state.stable + grown[1],
                "last_seen": self._both(seen),
            }
        )
        return seen

    def _judge(self) -> Judgement:
        percent = self.percent
        stable = self.state.stable_before if percent == 100 else self.state.stable
        has_credit = any(step.weight_percent for step in self.state.ladder)
        rung = Rung(self.state.canary, stable, has_credit)
        if percent:
            return judge_rung(rung, self._config)
        judge = judge_shadow if self._has_pairs else judge_unpaired_shadow
        return judge(rung, self._config)

    def _end_phase(self, judgement: Judgement) -> None:
        percent = self.percent
        step = LadderStep(
            name=self._name,
            weight_percent=percent,
            requests=self.state.canary.requests,
            errors=self.state.canary.errors,
            decision=_LADDER_DECISION[judgement.decision],
            reason=judgement.reason,
            seconds=round(self.state.phase_seconds, 3),
        )
        log.info("%s: %s: %s: %s", self._d.layout.pipeline, step.name, step.decision, step.reason)
        endings: dict[str, Ending] = {"pass": "", "fail": "rolled_back", "continue": "inconclusive"}
        self._save(
            ladder=(*self.state.ladder, step),
            stable_before=self.state.stable_before + self.state.stable,
            phase=self.state.phase + 1,
            is_entered=False,
            phase_seconds=0.0,
            canary=Counts(),
            stable=Counts(),
            ending=endings[judgement.decision],
            reason=judgement.reason,
            decided_at=self._d.clock.now(),
        )

    # --- the end --------------------------------------------------------------------------------

    def _withdraw(self) -> None:
        """Send all traffic back to stable at once, and see that it went."""
        note = Note(self._d.author, f"{self.state.ending}: {self.state.reason}")
        plan = self._propose(lambda current: without_trial(current, self._d.version, note))
        taken = seconds_until_taken_over(
            self._d.client, plan, TAKE_OVER_TIMEOUT_SECONDS, clock=self._d.clock
        )
        if taken is None:
            log.error(
                "%s: the data plane has not taken over plan %d within %g s; the agent goes on "
                "trying, see its log",
                *(self._d.layout.pipeline, plan.generation, TAKE_OVER_TIMEOUT_SECONDS),
            )
            return
        if self.state.decided_at is not None:
            waited = self._d.clock.now() - self.state.decided_at
            self.withdrawal_seconds = waited.total_seconds()

    def _hold_for_approval(self) -> None:
        """Give stable its traffic back until a person agrees; the new version stays ready."""
        self._stand_by(f"version {self._d.version} passed and waits for approval")

    def _pause(self) -> None:
        """Take the traffic off a trial that nobody watches for now; its counts stay."""
        log.info("%s: asked to end: the trial pauses, a retry goes on", self._d.layout.pipeline)
        self._save(is_entered=False)
        self._stand_by(f"the trial of version {self._d.version} pauses")

    def _stand_by(self, reason: str) -> None:
        note = Note(self._d.author, reason)
        self._propose(
            lambda current: on_standby(without_trial(current, None, note), self._d.version, note)
        )

    # --- plan and state -------------------------------------------------------------------------

    def _propose(self, make: MakePlan) -> TrafficPlan:
        """Put a plan in force that is made from the current one, and note it."""
        while True:
            self._d.check_attempt()
            current = self._own_plan()
            wanted = make(current)
            if is_same_traffic(current, wanted) and current.standby == wanted.standby:
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
        if current.author == self._d.author or is_same_traffic(current, self.state.plan):
            return current
        raise InterruptedTrialError(
            f"{current.author or 'somebody'} changed the traffic plan (generation "
            f"{current.generation}: {current.reason or 'no reason given'}) while version "
            f"{self._d.version} was on trial; the trial stopped and left that plan alone"
        )

    def _save(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)
        self.state.write(self._path)

    def _both(self, seen: Observation) -> tuple[ArmObservation, ...]:
        arms = (seen.of(self._d.version), seen.of(self.state.champion))
        return tuple(arm for arm in arms if arm is not None)

    @property
    def percent(self) -> int:
        """The canary's share of the traffic in this phase; 0 is the shadow."""
        return self._phases[min(self.state.phase, len(self._phases) - 1)]

    @property
    def _name(self) -> str:
        return f"{self.percent} %" if self.percent else "shadow"

    def _say_progress(self, judgement: Judgement, seen: Observation) -> None:
        counted = self.state.canary
        events = counted.requests if self.percent or not self._has_pairs else counted.compared
        rate = events / self.state.phase_seconds if self.state.phase_seconds else 0.0
        eta = f"about {judgement.missing / rate:.0f} s to go" if rate else "no traffic yet"
        problems = "".join(f"; {problem}" for problem in seen.problems)
        log.info(
            "%s: %s: %s; %s%s",
            *(self._d.layout.pipeline, self._name),
            judgement.reason,
            eta,
            problems,
        )
