"""Plans of traffic, what was seen of it, and what a deployment came to."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contract.errors import NotFoundError
from contract.records.record import Record

Percent = Annotated[int, Field(ge=0, le=100)]
Decision = Literal["pass", "fail", "continue"]

LEASE_SECONDS = 60.0
MOST_ENTRIES = 50  # of a plan's history and of its marks: a plan stays a small file
MOST_REASON_CHARACTERS = 300


class Arm(Record):
    """A share of the traffic that goes to one version."""

    name: Literal["stable", "canary"] = Field(description="Which arm it is.")
    version: int = Field(description="Version that answers.")
    weight_percent: Percent = Field(
        description="Its share of the traffic; the shares of all arms sum to 100."
    )


class Shadow(Record):
    """A version that gets a copy of the traffic; no caller receives its answers."""

    version: int = Field(description="Version that gets the copies.")
    percent: Percent = Field(description="Share of the traffic that is copied.")
    max_concurrent_requests: int = Field(
        32, description="Copies under way at once; more are dropped."
    )


class ChampionChange(Record):
    """A version became champion. A roll-back is a change that marks the version it leaves."""

    version: int = Field(description="Version that became champion.")
    previous: int | None = Field(None, description="Champion before it; null: none.")
    is_rollback: bool = Field(False, description="Whether it was a roll-back.")
    author: str = Field("", description="Run or user that proposed it.")
    reason: str = Field("", description="Why it was proposed.")
    changed_at: datetime | None = Field(
        None, description="When the plan was stored; null: before plans had a history."
    )


class BadVersion(Record):
    """A version that was rolled back; only a promotion by number removes the mark."""

    version: int = Field(description="Version that was rolled back.")
    author: str = Field("", description="Run or user that rolled it back.")
    reason: str = Field("", description="Why it was rolled back.")
    marked_at: datetime | None = Field(None, description="When the plan was stored.")


class Hold(Record):
    """A person has paused a trial: it keeps its share of the traffic and no rung is passed."""

    version: int = Field(description="Version on trial.")
    weight_percent: Percent = Field(description="Share that it keeps, in percent; 0 is the shadow.")
    author: str = Field("", description="Who paused it.")
    reason: str = Field("", description="Why it was paused.")
    since: datetime | None = Field(None, description="When it was paused.")


class Withdrawal(Record):
    """A trial lost its traffic because its controller was silent; its run may continue it."""

    version: int = Field(description="Version that was on trial.")
    weight_percent: Percent = Field(description="Share that it had, in percent; 0 is the shadow.")
    author: str = Field(description="Run whose trial it was.")
    by: str = Field(description="Who withdrew it.")
    reason: str = Field(description="Why it was withdrawn.")
    withdrawn_at: datetime = Field(description="When it was withdrawn.")

    @property
    def in_words(self) -> str:
        """The withdrawal as one clause."""
        where = f"at {self.weight_percent} %" if self.weight_percent else "in shadow"
        return (
            f"{self.by} withdrew the trial of version {self.version} ({where}, {self.author}) at "
            f"{self.withdrawn_at.astimezone():%Y-%m-%d %H:%M:%S}: {self.reason}"
        )


class TrafficPlan(Record):
    """Who should answer. Proposed by compare-and-set of `generation`; 0 means nothing yet.

    `champions`, `bad`, `hold` and `withdrawn` are kept by the store of plans: a proposal adds marks
    to `bad` and cannot take any away, and what it says of the others does not count. A hold ends
    when a person resumes the trial, or with the trial.

    A trial is a lease: when its author has not called the agent for `lease_seconds`, the agent
    gives stable all traffic again.
    """

    pipeline: str = Field(description="Name of the pipeline.")
    generation: int = Field(
        0, description="Number of the plan; a proposal names the one that it replaces."
    )
    arms: tuple[Arm, ...] = Field((), description="Versions that answer, with their shares.")
    shadow: Shadow | None = Field(None, description="Version that gets copies; null: none.")
    standby: tuple[int, ...] = Field((), description="Kept running without traffic.")
    champions: tuple[ChampionChange, ...] = Field((), description="Oldest first.")
    bad: tuple[BadVersion, ...] = Field((), description="Rolled back from, by version.")
    sticky_header: str = Field(
        "", description="Requests with the same value of this header keep their arm; empty: none."
    )
    hold: Hold | None = Field(None, description="What keeps the trial on its rung; null: nothing.")
    lease_seconds: float = Field(
        LEASE_SECONDS,
        gt=0.0,
        allow_inf_nan=False,  # JSON has no endless number: the plan could not be read again
        description="Seconds for which a trial stays in force without a call of its author.",
    )
    withdrawn: Withdrawal | None = Field(
        None, description="The last trial that was withdrawn for want of a judge; null: none."
    )
    author: str = Field("", description="Run or user that proposed it.")
    reason: str = Field("", description="Why it was proposed.")
    written_at: datetime | None = Field(
        None, description="When it was stored; null: only proposed."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        total = sum(arm.weight_percent for arm in self.arms)
        if self.arms and total != 100:
            raise ValueError(f"weights must sum to 100 percent, found {total}")
        if len({arm.name for arm in self.arms}) != len(self.arms):
            raise ValueError("arm names repeat")
        if len({arm.version for arm in self.arms}) != len(self.arms):
            raise ValueError("arm versions repeat")
        return self

    @property
    def champion(self) -> int | None:
        """The version of the stable arm."""
        return next((arm.version for arm in self.arms if arm.name == "stable"), None)

    @property
    def canary(self) -> Arm | None:
        """The arm on trial, if any."""
        return next((arm for arm in self.arms if arm.name == "canary"), None)

    @property
    def trial(self) -> tuple[int, int] | None:
        """The version on trial and its share of the traffic, 0 in shadow; None without a trial."""
        if self.canary is not None:
            return self.canary.version, self.canary.weight_percent
        return (self.shadow.version, 0) if self.shadow is not None else None

    @property
    def versions(self) -> frozenset[int]:
        """Every version that must run."""
        shadow = {self.shadow.version} if self.shadow else set()
        return frozenset({arm.version for arm in self.arms} | shadow | set(self.standby))

    @property
    def lineage(self) -> tuple[int, ...]:
        """Champions that were not rolled back, oldest first; the last one is in service.

        A roll-back takes everything after the version that it returns to out of the lineage. A
        plan written before plans had a history has the champion, and before it the versions on
        standby with lower numbers: a higher number is a version rolled back from, or on approval.
        """
        if not self.champions:
            earlier = sorted(v for v in self.standby if self.champion and v < self.champion)
            return (*earlier, *filter(None, [self.champion]))
        line: list[int] = []
        for change in self.champions:
            if change.is_rollback:
                while line and line[-1] != change.version:
                    line.pop()
            if not line or line[-1] != change.version:
                line.append(change.version)
        return tuple(line)

    def mark_of(self, version: int) -> BadVersion | None:
        """Return the mark of a version that was rolled back from, if it has one."""
        return next((mark for mark in self.bad if mark.version == version), None)

    def stored_after(self, current: "TrafficPlan", written_at: datetime) -> "TrafficPlan":
        """Return this proposal as it is stored in place of the current plan.

        The generation rises, the history grows if the champion changes, marks are kept and a
        promotion lifts the champion's. The last 50 entries of both are kept. A hold stays while its
        version runs and is not the champion. A withdrawn version stays ready for its run until
        there is another trial or another champion.
        """
        held = current.hold.version if current.hold else None
        gone = current.withdrawn
        is_over = self.trial is not None or self.champion != current.champion
        left = {gone.version} if gone and is_over else set()
        standby = tuple(version for version in self.standby if version not in left)
        fresh = [m.model_copy(update={"marked_at": written_at}) for m in self.bad]
        marks = {m.version: m for m in (*fresh, *current.bad) if m.version != self.champion}
        return self.model_copy(
            update={
                "generation": current.generation + 1,
                "written_at": written_at,
                "champions": self._history_after(current, written_at)[-MOST_ENTRIES:],
                "bad": tuple(marks[number] for number in sorted(marks))[-MOST_ENTRIES:],
                "hold": current.hold if held in self._tried_or(standby) else None,
                "standby": standby,
                "withdrawn": None if is_over else gone,
            }
        )

    def _tried_or(self, standby: tuple[int, ...]) -> set[int]:
        return {*standby, *([self.trial[0]] if self.trial else [])}

    def _history_after(
        self, current: "TrafficPlan", changed_at: datetime
    ) -> tuple[ChampionChange, ...]:
        history = current.champions or tuple(ChampionChange(version=v) for v in current.lineage)
        if self.champion is None or self.champion == current.champion:
            return history
        change = ChampionChange(
            version=self.champion,
            previous=current.champion,
            is_rollback=any(mark.version == current.champion for mark in self.bad),
            author=self.author,
            reason=self.reason[:MOST_REASON_CHARACTERS],
            changed_at=changed_at,
        )
        return (*history, change)


class ArmObservation(Record):
    """Counters of one version since its traffic began; they only grow, unless Envoy restarts.

    Only predictions asked of the pipeline count, and their copies for the shadow: not questions
    about status and metadata, nor what callers ask of one version directly.
    """

    version: int = Field(description="Version that the counters are about.")
    is_ready: bool = Field(description="Whether its server answers its health check.")
    server: str = Field(
        "", description="Which server process it is; another one after each start; empty: unknown."
    )
    requests: int = Field(0, description="Requests answered, whatever the status.")
    errors: int = Field(0, description="Of them, answers with status 5xx.")
    client_errors: int = Field(0, description="Of them, answers with status 4xx.")
    active: int = Field(0, description="Requests under way now; the one figure that falls.")
    unreached: int = Field(
        0,
        description="Requests that the data plane refused with 503 because it knew no host of the "
        "version; not among `requests` and `errors`.",
    )
    abandoned: int = Field(
        0,
        description="Requests whose callers left before the answer; not among `requests` and "
        "`errors`.",
    )
    latency_bounds_ms: tuple[float, ...] = Field((), description="Upper bounds, rising.")
    latency_counts: tuple[int, ...] = Field((), description="Cumulative, one per bound.")
    latency_total: int = Field(0, description="Answers timed, also those above the last bound.")
    compared: int = Field(0, description="Shadow requests paired with the stable arm's answer.")
    disagreements: float = Field(
        0.0, description="Sum over these requests of the share of their rows that differ."
    )
    refused_alone: int = Field(
        0, description="Of them, requests answered with 4xx that the stable arm answered."
    )


class Observation(Record):
    """What the agent sees. `generation` is the plan that the data plane has taken over."""

    pipeline: str = Field(description="Name of the pipeline.")
    generation: int = Field(description="Generation of the plan that the data plane follows.")
    observed_at: datetime = Field(description="When it was read.")
    versions: tuple[ArmObservation, ...] = Field(
        (), description="Counters of each version that runs."
    )
    problems: tuple[str, ...] = Field(
        (), description="Why traffic does not follow the plan, for people."
    )

    def of(self, version: int) -> ArmObservation | None:
        """Return a version's counters, if it runs."""
        return next((seen for seen in self.versions if seen.version == version), None)


class Approval(Record):
    """What a person has answered to the question whether a version gets all traffic."""

    version: int = Field(description="The version that the question was about.")
    is_approved: bool = Field(description="Whether the answer was yes.")
    who: str = Field("", description="The user in Airflow; empty where Airflow names nobody.")
    answered_at: datetime = Field(description="When the answer was kept, in UTC.")

    @classmethod
    def of(cls, path: Path, version: int) -> Self | None:
        """Return the answer about a version; None if there is none, or one about another."""
        try:
            found = cls.read(path)
        except NotFoundError:
            return None
        return found if found.version == version else None

    @property
    def in_words(self) -> str:
        """The answer as a clause."""
        return f"{self.who or 'somebody'} {'approved' if self.is_approved else 'rejected'} it"


class LadderStep(Record):
    """What the judge saw on one rung.

    `evidence` is by test: how many times the test's stakes on a worse canary have multiplied, over
    the way so far; a version is rolled back when it reaches the test's entry in `bounds`.
    """

    name: str = Field(description="Name of the rung, as in 'shadow' or '25 %'.")
    weight_percent: Percent = Field(description="Share of the traffic that the canary had.")
    requests: int = Field(description="Requests that the canary had; not those under way.")
    errors: int = Field(
        description="Of them, answers with status 5xx, and those whose callers left before the "
        "answer; in a shadow also what it refuses and stable answers."
    )
    client_errors: int = Field(0, description="Of them, answers with status 4xx.")
    stable_requests: int = Field(0, description="Requests that the stable arm had meanwhile.")
    stable_errors: int = Field(
        0,
        description="Of those, answers with status 5xx, and those whose callers left before the "
        "answer.",
    )
    stable_client_errors: int = Field(0, description="Of those, answers with status 4xx.")
    decision: Literal["pass", "rollback", "inconclusive"] = Field(
        description="What the judge decided."
    )
    decided_by: str = Field("", description="The tests that decided, by name.")
    evidence: dict[str, float] = Field(
        {}, description="By test, how many times its stakes on a worse canary have multiplied."
    )
    bounds: dict[str, float] = Field(
        {}, description="By test, the evidence at which the version is rolled back."
    )
    reason: str = Field(description="Why it was decided, for people.")
    seconds: float = Field(description="How long the rung took.")


class DeployRecord(Record):
    """How a stage of the deployment ended."""

    stage: Literal["canary", "promote"] = Field(
        description="Which of the two stages of the deployment."
    )
    outcome: Literal["passed", "first", "promoted", "rolled_back", "inconclusive", "refused"] = (
        Field(description="How it ended.")
    )
    version: int = Field(description="Version on trial.")
    champion_version: int | None = Field(
        None, description="Champion that it was compared with; null: none."
    )
    canary_requests: int = Field(0, description="Requests that the canary answered, on all rungs.")
    canary_errors: int = Field(0, description="Of them, answers with status 5xx.")
    ladder: tuple[LadderStep, ...] = Field((), description="What the judge saw, rung by rung.")
    reasons: tuple[str, ...] = Field((), description="Why it ended so, for people.")

    @property
    def has_passed(self) -> bool:
        """Whether the trial was passed; a first version has nothing to be compared with."""
        return self.outcome in ("passed", "first")

    @property
    def continues_run(self) -> bool:
        """Whether the run continues after this stage; a version in service already may, too."""
        return self.has_passed or self.outcome == "promoted"

    @property
    def is_in_service(self) -> bool:
        """Whether this stage has put the version into service."""
        return self.outcome in ("promoted", "first")
