"""The way of a new version through shadow and ladder, with the judge at every look."""

import logging
from dataclasses import replace

from components.deploy.canary.first_rung import survey, traffic_in_shadow
from components.deploy.canary.phases import in_words, ladder_step, out_of_time, seconds_to_go
from components.deploy.canary.report import Moment
from components.deploy.canary.state import CanaryState, Ending
from components.deploy.canary.stopping import StoppedError, stops_on_sigterm
from components.deploy.canary.trial import Trial
from components.deploy.data_plane import seconds_until_taken_over
from components.deploy.deployment import Deployment
from components.deploy.disagreement import disagreement_limit
from components.deploy.judging.accounts import Phase, after, settled, stakes, with_stake
from components.deploy.judging.consents import Terms
from components.deploy.judging.evidence import growth
from components.deploy.judging.judge import Judgement, judge
from components.deploy.judging.ladder import outlook
from components.deploy.judging.whole_way import Rung, can_tell
from components.deploy.plans import (
    Note,
    on_standby,
    with_canary,
    with_shadow,
    without_trial,
)
from contract.records.traffic import ArmObservation, Observation, Shadow, TrafficPlan

log = logging.getLogger("slipway")

# Between two looks: at 200 canary requests a second, 50 requests more than were needed.
_LOOK_SECONDS = 0.25
_PROGRESS_SECONDS = 5.0
# A server loads and warms its model in seconds; one that needs minutes is broken.
READY_TIMEOUT_SECONDS = 300.0
TAKE_OVER_TIMEOUT_SECONDS = 30.0
_HANDOVER_SECONDS = 900.0  # until `promote` has started, perhaps in a pod that waits for a node
_MOST_DEATHS = 3  # of a server in one trial; so many are unlikely to come from outside


class Canary(Trial):
    """Walks one version up the ladder. All that it knows is in its state file."""

    def __init__(self, deployment: Deployment, state: CanaryState) -> None:
        super().__init__(deployment, state)
        self.withdrawal_seconds: float | None = None
        self._decided_at: float | None = None  # by the monotonic clock of this process
        self._disagreement_limit = disagreement_limit(deployment, state.champion)
        self._terms_of = ((-1, 0), Terms(self._config))

    def walk(self) -> CanaryState:
        """Continue from the state until the version has passed, failed or run out of time.

        Raises:
            InterruptedTrialError: If somebody else changed the traffic; the plan stays theirs.
            StoppedError: On SIGTERM; stable has all traffic until a retry continues from here.
            KeyboardInterrupt: On Ctrl-C, with the same effect.
            ConflictError: If a later attempt at this step has taken over.
            ServiceUnavailableError: If the agent is unavailable for long; a retry continues here.
        """
        try:
            with stops_on_sigterm():
                while not self.state.ending and self.state.phase < len(self._phases):
                    self._walk_phase()
        except (StoppedError, KeyboardInterrupt):
            self._stop()
            raise
        if not self.state.ending:
            self._save(ending="passed")
        if self.state.ending != "passed":
            self._withdraw()
            is_worse = self.state.ending == "rolled_back"
            self._teller.tell_end("rolled back" if is_worse else "inconclusive", self.state, 0)
        elif self._config.requires_approval:
            self._hold_for_approval()
            self._teller.tell_end("waiting for approval", self.state, 0)
        else:
            self._hand_over()
            self._teller.tell_end("passed", self.state, self.percent)
        return self.state

    def _hand_over(self) -> None:
        """Lease the trial until `promote` has started: nobody renews it before."""
        seconds = max(_HANDOVER_SECONDS, self._config.lease_seconds)
        self._propose(lambda current: current.model_copy(update={"lease_seconds": seconds}))

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
        judgement = self._watch()
        if judgement is None:
            self._save(is_entered=False, counted=Phase())
        else:
            self._end_phase(judgement)

    def _enter(self) -> bool:
        """Put the phase's plan in force; tell whether the data plane has taken it over in time.

        A trial on hold goes no further than where it is held.
        """
        plan = self._propose(lambda current: self._plan_at(current, self.percent))
        log.info("%s: version %d goes to %s", self._d.layout.pipeline, self._d.version, self._name)
        getting_ready = Judgement("continue", f"version {self._d.version} gets ready")
        self._teller.tell(self.state, getting_ready, self._moment())
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
        self._note("entered")
        self._save(is_entered=True, last_seen=self._both(seen), **self._stake_of_phase())
        self._save(accounts_before=self.state.accounts, server=_server(seen, self._d.version))
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
        traffic = traffic_in_shadow(self.state, self._config.allowed_error_ratio)
        if traffic is None:
            traffic, seconds = survey(self._d, self.state.champion)
            self._save(spent_seconds=self.state.spent_seconds + seconds)
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

    def _plan_at(self, current: TrafficPlan, percent: int) -> TrafficPlan:
        note = Note(self._d.author, f"{self._name} of version {self._d.version}")
        lease = {"lease_seconds": self._config.lease_seconds}
        if percent:
            plan = with_canary(current, self._d.version, percent, note)
            return plan.model_copy(update={"sticky_header": self._config.sticky_header, **lease})
        shadow = Shadow(
            version=self._d.version,
            percent=self._config.shadow_percent,
            max_concurrent_requests=self._config.shadow_max_concurrent_requests,
        )
        return with_shadow(current, shadow, note).model_copy(update=lease)

    def _watch(self) -> Judgement | None:
        """Look and judge until there is a decision or no time left; None to enter another rung.

        While a person holds the trial, nothing passes and no time is spent; what has failed is
        rolled back all the same.
        """
        last_look = last_words = self._d.clock.monotonic()
        while True:
            seen = self._look()
            if self._has_died(seen):
                return self._after_death()
            now = self._d.clock.monotonic()
            self._count_time(now - last_look)
            last_look = now
            judgement = self._judged()
            self._save()
            self._teller.tell(self.state, judgement, self._moment(seen.problems))
            if judgement.decision != "continue":
                return judgement
            if self._weight_in_force != self.percent:
                return None
            if self.state.spent_seconds >= self._config.timeout_seconds:
                return out_of_time(judgement, self.state.accounts, self._config)
            if now - last_words >= _PROGRESS_SECONDS:
                last_words = now
                self._say_progress(judgement, seen)
            self._d.clock.sleep(_LOOK_SECONDS)

    def _has_died(self, seen: Observation) -> bool:
        """Tell whether the version's server is another process than at the last look, or none.

        An agent that does not know processes says nothing of them.
        """
        return self.state.server not in ("", _server(seen, self._d.version))

    def _after_death(self) -> Judgement | None:
        """Take the traffic off a version whose server died; None to try it again when it is back.

        The errors of its death are not judged, because it may have been killed from outside. A
        version that dies repeatedly fails.
        """
        version, deaths = self._d.version, self.state.deaths + 1
        words = f"the server of version {version} died ({deaths} of at most {_MOST_DEATHS} times)"
        log.warning("%s: %s", self._d.layout.pipeline, words)
        self._note("died", words)
        before = self.state.accounts_before or self.state.accounts
        if deaths >= _MOST_DEATHS:
            self._save(deaths=deaths, server="", accounts=before)
            return Judgement("fail", f"its server died {deaths} times", decided_by="deaths")
        # at once: a process that is killed now must not judge what came of the death
        self._save(deaths=deaths, server="", accounts=before, is_entered=False, counted=Phase())
        self._stand_by(f"{words}: it is tried again when it is back")
        return None

    def _judged(self) -> Judgement:
        judgement = judge(self.state.counted, self.state.accounts, self._terms)
        if self._hold is None or judgement.decision == "fail":
            return judgement
        words = f"paused by {self._hold.author or 'somebody'}; {judgement.reason}"
        return replace(judgement, decision="continue", reason=words)

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
        spent = self.state.spent_seconds + (seconds if self._hold is None else 0.0)
        changes = {"counted": counted, "accounts": accounts, "spent_seconds": spent}
        self.state = self.state.model_copy(update=changes)

    @property
    def _terms(self) -> Terms:
        """What the present phase asks for; made once for a phase."""
        phase = (self.state.phase, self.percent)
        if self._terms_of[0] != phase:
            is_shadow = self.percent == 0
            limit = self._disagreement_limit if is_shadow else None
            sticky_percent = self.percent if self._sticky_users else 0
            terms = Terms(self._config, is_shadow, limit, self._earlier(), sticky_percent)
            self._terms_of = (phase, terms)
        return self._terms_of[1]

    def _earlier(self) -> tuple[Rung, ...] | None:
        """Return the rungs before on the last one that can tell errors of all rungs, else None."""
        users = self._sticky_users
        telling = [
            n for n, percent in enumerate(self._phases) if percent and can_tell(percent, users)
        ]
        if not telling or self.state.phase != telling[-1]:
            return None
        return self.state.telling_rungs(users)

    @property
    def _sticky_users(self) -> int:
        return self._config.sticky_users if self._config.sticky_header else 0

    def _end_phase(self, judgement: Judgement) -> None:
        if judgement.decision == "pass":
            limit = self._terms.disagreement_limit
            accounts = settled(self.state.accounts, self.state.counted, self._config, limit)
            self.state = self.state.model_copy(update={"accounts": accounts})
        step = ladder_step(self._name, self.percent, self.state, judgement, self._config.alpha)
        log.info("%s: %s: %s: %s", self._d.layout.pipeline, step.name, step.decision, step.reason)
        self._decided_at = self._d.clock.monotonic()
        endings: dict[str, Ending] = {"pass": "", "fail": "rolled_back", "continue": "inconclusive"}
        if judgement.decision == "pass":
            self._note("passed", step.reason)
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

    def _stop(self) -> None:
        """Take the traffic off a trial that nobody watches for now; its counts stay."""
        log.info("%s: asked to end: the trial stops, a retry continues it", self._d.layout.pipeline)
        self._save(is_entered=False)
        self._stand_by(f"the trial of version {self._d.version} stops for now")
        self._teller.tell_stop(self.state)

    def _stand_by(self, reason: str) -> None:
        note = Note(self._d.author, reason)
        self._propose(
            lambda current: on_standby(without_trial(current, None, note), self._d.version, note)
        )

    # --- words ---------------------------------------------------------------------------------

    def _both(self, seen: Observation) -> tuple[ArmObservation, ...]:
        arms = (seen.of(self._d.version), seen.of(self.state.champion))
        return tuple(arm for arm in arms if arm is not None)

    def _moment(self, problems: tuple[str, ...] = ()) -> Moment:
        skipped = range(self._phases.count(0), self._phases.count(0) + self.state.skipped)
        way = tuple(p for number, p in enumerate(self._phases) if number not in skipped)
        return Moment(self._name, self.percent, way, self._terms, self._hold, problems)

    def _say_progress(self, judgement: Judgement, seen: Observation) -> None:
        eta = in_words(seconds_to_go(judgement, self.state.counted, self._terms))
        problems = "".join(f"; {problem}" for problem in seen.problems)
        log.info(
            "%s: %s: %s; %s%s",
            *(self._d.layout.pipeline, self._name),
            judgement.reason,
            eta,
            problems,
        )


def _server(seen: Observation, version: int) -> str:
    arm = seen.of(version)
    return arm.server if arm is not None else ""
