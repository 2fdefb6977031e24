"""The way of a new version through shadow and ladder, with the judge at every look."""

import logging
from collections.abc import Callable
from pathlib import Path

from components.deploy.canary.phases import ladder_step, time_to_go
from components.deploy.canary.state import STATE_FILE, CanaryState, Ending
from components.deploy.canary.stopping import StoppedError, stops_on_sigterm
from components.deploy.data_plane import seconds_until_taken_over
from components.deploy.deployment import Deployment
from components.deploy.disagreement import disagreement_limit
from components.deploy.judging.accounts import Phase, after, settled, stakes, with_stake
from components.deploy.judging.evidence import Counts, growth
from components.deploy.judging.judge import Judgement, Terms, judge
from components.deploy.judging.ladder import Traffic, outlook
from components.deploy.plans import (
    Note,
    is_same_traffic,
    on_standby,
    with_canary,
    with_shadow,
    without_trial,
)
from components.runs.agent_client import PlanConflictError
from contract.records.traffic import ArmObservation, Observation, Shadow, TrafficPlan

log = logging.getLogger("slipway")

# Between two looks: at 200 canary requests a second, 50 requests more than were needed.
_LOOK_SECONDS = 0.25
_PROGRESS_SECONDS = 5.0
_SURVEY_SECONDS, _LONGEST_SURVEY_SECONDS, _SURVEY_REQUESTS = 10.0, 60.0, 200
# A server loads and warms its model in seconds; one that needs minutes is broken.
READY_TIMEOUT_SECONDS = 300.0
TAKE_OVER_TIMEOUT_SECONDS = 30.0

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
        self._decided_at: float | None = None  # by the monotonic clock of this process
        self._disagreement_limit = disagreement_limit(deployment, state.champion)

    def walk(self) -> CanaryState:
        """Continue from the state until the version has passed, failed or run out of time.

        Raises:
            InterruptedTrialError: If somebody else changed the traffic; the plan stays theirs.
            StoppedError: On SIGTERM; stable has all traffic until a retry continues from here.
            ConflictError: If a later attempt at this step has taken over.
            ServiceUnavailableError: If the agent is unavailable for long; a retry continues here.
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
        if self.percent and not self.state.outlook:
            self._choose_first_rung()
        # a state of an older Slipway has no stakes: its phase begins again
        is_entered = self.state.is_entered and self.state.stakes_paid > 0
        if not is_entered and not self._enter():
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
        self._save(is_entered=True, last_seen=self._both(seen), **self._stake_of_phase())
        return True

    def _stake_of_phase(self) -> dict[str, object]:
        """Return what changes when the phase's bets get their stakes; nothing if they have them."""
        number = self.state.phase - self.state.skipped
        if self.state.stakes_paid > number:
            return {}
        amounts = stakes(len(self._phases) - self.state.skipped, 0 in self._phases)
        return {
            "accounts": with_stake(self.state.accounts, amounts[number]),
            "stakes_paid": number + 1,
        }

    def _choose_first_rung(self) -> None:
        """Leave out the rungs for which there is too little traffic; say what is to be expected."""
        traffic = self._traffic_in_shadow() or self._survey()
        left = self._config.timeout_seconds - self.state.spent_seconds
        found = outlook(self._config, traffic, left)
        level = logging.INFO if found.is_possible else logging.WARNING
        log.log(level, "%s: %s", self._d.layout.pipeline, found.words)
        first = self._phases.count(0)
        is_first = self.state.phase <= first  # a trial of an older Slipway may be further up
        phase = max(self.state.phase, first + found.skipped)
        self._save(
            phase=phase,
            skipped=phase - self.state.phase,
            outlook=found.words,
            last_percent=found.last_percent if is_first else 0,
        )

    def _traffic_in_shadow(self) -> Traffic | None:
        for step in self.state.ladder:
            if step.seconds:
                seen = Counts(step.stable_requests, step.stable_errors, step.stable_client_errors)
                return Traffic.of(seen, step.seconds, self._config.allowed_error_ratio)
        return None

    def _survey(self) -> Traffic:
        """Watch stable for a moment, before any caller meets the new version."""
        before = self._d.client.observation(self._d.layout.pipeline).of(self.state.champion)
        longest = min(_LONGEST_SURVEY_SECONDS, self._config.min_seconds_per_step)
        counted, seconds = Counts(), 0.0
        while counted.requests < _SURVEY_REQUESTS and seconds < longest:
            part = min(_SURVEY_SECONDS, longest - seconds)
            self._d.clock.sleep(part)
            seen = self._d.client.observation(self._d.layout.pipeline).of(self.state.champion)
            counted += growth(before, seen)
            before, seconds = seen, seconds + part
        self._save(spent_seconds=self.state.spent_seconds + seconds)
        return Traffic.of(counted, seconds, self._config.allowed_error_ratio)

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
            now = self._d.clock.monotonic()
            self._count_time(now - last_look)
            last_look = now
            judgement = judge(self.state.counted, self.state.accounts, self._terms)
            self._save()
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
        canary, stable = (
            growth(self.state.seen(version), seen.of(version))
            for version in (self._d.version, self.state.champion)
        )
        counted = self.state.counted.grown(canary, stable, self._config.warm_up_requests)
        self.state = self.state.model_copy(
            update={"counted": counted, "last_seen": self._both(seen)}
        )
        return seen

    def _count_time(self, seconds: float) -> None:
        counted, accounts = after(
            *(seconds, self.state.counted, self.state.accounts, self._config),
            self._terms.disagreement_limit,
        )
        spent = self.state.spent_seconds + seconds
        changes = {"counted": counted, "accounts": accounts, "spent_seconds": spent}
        self.state = self.state.model_copy(update=changes)

    @property
    def _terms(self) -> Terms:
        is_shadow = self.percent == 0
        return Terms(self._config, is_shadow, self._disagreement_limit if is_shadow else None)

    def _end_phase(self, judgement: Judgement) -> None:
        if judgement.decision == "pass":
            limit = self._terms.disagreement_limit
            accounts = settled(self.state.accounts, self.state.counted, self._config, limit)
            self.state = self.state.model_copy(update={"accounts": accounts})
        step = ladder_step(self._name, self.percent, self.state, judgement, self._config.alpha)
        log.info("%s: %s: %s: %s", self._d.layout.pipeline, step.name, step.decision, step.reason)
        self._decided_at = self._d.clock.monotonic()
        endings: dict[str, Ending] = {"pass": "", "fail": "rolled_back", "continue": "inconclusive"}
        self._save(
            ladder=(*self.state.ladder, step),
            phase=self.state.phase + 1,
            is_entered=False,
            counted=Phase(),
            ending=endings[judgement.decision],
            reason=step.reason,
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
                "%s: the data plane has not taken over plan %d within %g s; the agent keeps "
                "trying, see its log",
                *(self._d.layout.pipeline, plan.generation, TAKE_OVER_TIMEOUT_SECONDS),
            )
            return
        if self._decided_at is not None:
            self.withdrawal_seconds = self._d.clock.monotonic() - self._decided_at
        elif self.state.decided_at is not None:  # decided by a process that was killed
            waited = self._d.clock.now() - self.state.decided_at
            self.withdrawal_seconds = max(0.0, waited.total_seconds())

    def _hold_for_approval(self) -> None:
        """Give stable its traffic back until a person agrees; the new version stays ready."""
        self._stand_by(f"version {self._d.version} passed and waits for approval")

    def _pause(self) -> None:
        """Take the traffic off a trial that nobody watches for now; its counts stay."""
        log.info(
            "%s: asked to end: the trial pauses, a retry continues it", self._d.layout.pipeline
        )
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
            f"{self._d.version} was on trial; the trial stopped and did not change that plan"
        )

    def _save(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)
        self.state.write(self._path)

    def _both(self, seen: Observation) -> tuple[ArmObservation, ...]:
        arms = (seen.of(self._d.version), seen.of(self.state.champion))
        return tuple(arm for arm in arms if arm is not None)

    @property
    def _phases(self) -> tuple[int, ...]:
        """The canary's share in each phase; 0 is the shadow."""
        has_shadow = self._config.shadow_percent > 0 and self._config.shadow_requests > 0
        *lower, last = self._config.rungs_percent
        return (*((0,) if has_shadow else ()), *lower, self.state.last_percent or last)

    @property
    def percent(self) -> int:
        """The canary's share of the traffic in this phase; 0 is the shadow."""
        return self._phases[min(self.state.phase, len(self._phases) - 1)]

    @property
    def _name(self) -> str:
        return f"{self.percent} %" if self.percent else "shadow"

    def _say_progress(self, judgement: Judgement, seen: Observation) -> None:
        eta = time_to_go(judgement, self.state.counted, self._terms)
        problems = "".join(f"; {problem}" for problem in seen.problems)
        log.info(
            "%s: %s: %s; %s%s",
            *(self._d.layout.pipeline, self._name),
            judgement.reason,
            eta,
            problems,
        )
