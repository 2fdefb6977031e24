"""A rollout as its controller knows it, written at each look for console, page and pictures."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from contract.records.record import Record
from contract.records.traffic import Decision, Hold, Percent

RolloutState = Literal[
    "running",
    "paused",
    "stopped",
    "waiting for approval",
    "passed",
    "promoted",
    "rolled back",
    "inconclusive",
    "interrupted",
]
EventKind = Literal["entered", "passed", "paused", "resumed", "withdrawn", "died", "ended"]
MOST_EVENTS = 200
# The controller looks four times a second; a record that is older than this has no controller.
SILENT_SECONDS = 15.0


class ArmCounts(Record):
    """What was counted of one version in the present phase."""

    version: int = Field(description="Version of the arm.")
    weight_percent: Percent = Field(description="Its share of the callers' traffic, in percent.")
    requests: int = Field(0, description="Requests answered, whatever the status.")
    errors: int = Field(0, description="Answers with status 5xx.")
    client_errors: int = Field(0, description="Answers with status 4xx.")
    active: int = Field(0, description="Requests under way at the last look.")
    timed: int = Field(0, description="Answers timed since the warm-up.")
    p95_ms: float = Field(0.0, description="95th percentile of these, in ms; 0 without any.")
    compared: int = Field(0, description="Answers of the shadow compared with stable's.")


class RolloutTest(Record):
    """One test and how far it is from its two bounds.

    `against` is the evidence that the canary is worse, `in_favour` that it is good on this rung. In
    the unit `evidence` they are factors: how many times the stake has multiplied, how many times
    likelier a good canary is than a bad one.
    """

    name: str = Field(description="Name of the test.")
    unit: Literal["evidence", "requests", "seconds"] = Field(
        "evidence", description="Unit of its four figures."
    )
    canary_events: int = Field(0, description="Events of the canary that it is about.")
    stable_events: int = Field(0, description="Events of stable that it is about.")
    against: float | None = Field(None, description="Evidence against the canary; null: no such.")
    fails_at: float | None = Field(None, description="From here on it is rolled back.")
    in_favour: float | None = Field(None, description="Evidence for the canary; null: no such.")
    passes_at: float | None = Field(None, description="From here on the test agrees to pass.")
    missing: int = Field(0, description="Clean requests of the canary until it agrees.")
    has_agreed: bool | None = Field(None, description="Whether it agrees; null: it has no say.")
    words: str = Field("", description="What it has seen, in words.")


class RolloutEvent(Record):
    """A change of weights, or a decision."""

    at: datetime = Field(description="When it happened.")
    kind: EventKind = Field(description="What happened.")
    phase: str = Field(description="Phase in which it happened, such as `5 %`.")
    weight_percent: Percent = Field(description="The canary's share from then on, in percent.")
    words: str = Field("", description="Why it happened.")


class Rollout(Record):
    """All that is known of the trial of one version."""

    pipeline: str = Field(description="Name of the pipeline.")
    author: str = Field(description="Who steers it: `run <id>`.")
    version: int = Field(description="Version on trial.")
    champion: int = Field(description="Version in service, which it is compared with.")
    state: RolloutState = Field(description="What it is doing, or how it ended.")
    phase: str = Field(description="`shadow`, or the rung's weight: `5 %`.")
    weights_percent: tuple[Percent, ...] = Field(description="The whole way; 0 is the shadow.")
    canary: ArmCounts = Field(description="Counts of the version on trial.")
    stable: ArmCounts = Field(description="Counts of the version in service.")
    tests: tuple[RolloutTest, ...] = Field((), description="Every test of the phase.")
    decision: Decision = Field("continue", description="What the judge says now.")
    reason: str = Field("", description="Why the judge says so, in words.")
    outlook: str = Field("", description="What was to be expected at the traffic first seen.")
    seconds: float = Field(0.0, description="Seconds in this phase.")
    spent_seconds: float = Field(0.0, description="Seconds in all; pauses do not count.")
    timeout_seconds: float = Field(description="Seconds after which it is inconclusive.")
    seconds_to_decision: float | None = Field(
        None,
        description="Seconds until this rung can pass, at the rates so far and if no further "
        "request is bad; null: unknown.",
    )
    seconds_to_end: float | None = Field(
        None,
        description="Seconds expected until the last rung has passed, at the rates so far; null: "
        "unknown.",
    )
    hold: Hold | None = Field(None, description="Who has paused it; null: nobody.")
    problems: tuple[str, ...] = Field((), description="Problems of the agent, in words.")
    events: tuple[RolloutEvent, ...] = Field((), description="What happened so far, oldest first.")
    looked_at: datetime = Field(description="When its controller last looked at the counters.")

    @property
    def is_over(self) -> bool:
        """Whether its controller has ended it."""
        return self.state not in ("running", "paused", "stopped")

    def is_silent(self, now: datetime) -> bool:
        """Tell whether nobody has looked for so long that the controller is not at work."""
        return not self.is_over and (now - self.looked_at).total_seconds() > SILENT_SECONDS

    @property
    def way(self) -> str:
        """The whole way in words: `shadow, 1 %, 5 %`."""
        return ", ".join("shadow" if w == 0 else f"{w} %" for w in self.weights_percent)

    @property
    def time_to_go(self) -> str:
        """When a decision can be expected, in words that promise nothing that nobody knows."""
        left = max(0.0, self.timeout_seconds - self.spent_seconds)
        if self.hold is not None:
            return f"time to a decision: none while it is paused ({left:,.0f} s left after that)"
        if self.seconds_to_decision is None:
            return (
                "time to a decision: unknown (no traffic, or stable itself fails); inconclusive in "
                f"{left:,.0f} s"
            )
        words = f"time to go: this rung about {self.seconds_to_decision:,.0f} s"
        if self.seconds_to_end is not None:
            words += f", the way about {self.seconds_to_end:,.0f} s"
        if (self.seconds_to_end or self.seconds_to_decision) > left:
            return f"{words} at the rate so far, but {left:,.0f} s are left: expect 'inconclusive'"
        return f"{words}, at the rate so far and without further errors"
