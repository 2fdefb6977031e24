"""Questions to the judge about rollouts that others steer, and its answers."""

from datetime import datetime

from pydantic import Field

from contract.records.record import Record
from contract.records.traffic import ArmObservation, Decision


class Question(Record):
    """What was counted of a rollout until now, by counters that only grow."""

    rollout: str = Field(description="Which rollout, such as `namespace/name`.")
    revision: str = Field("", description="Which version is tried; another one begins again.")
    step: str = Field("", description="Which step of its way; another one begins a new rung.")
    canary: ArmObservation = Field(description="Counters of the version that is tried.")
    stable: ArmObservation = Field(description="Counters of the version in service.")
    asked_at: datetime = Field(description="When the counters were read.")


class Advice(Record):
    """What the judge says to a rollout."""

    decision: Decision = Field(description="Whether to raise the weight, roll back, or wait.")
    reason: str = Field(description="Why, in words.")
    decided_by: str = Field("", description="The tests that decided, by name.")
    requests: int = Field(0, description="Requests of the canary on this rung.")
    stable_requests: int = Field(0, description="Requests of stable on this rung.")
    missing: int = Field(0, description="Clean requests of the canary until it may pass.")
    evidence: dict[str, float] = Field({}, description="Evidence against the canary, by test.")
    bounds: dict[str, float] = Field({}, description="Evidence at which a test rolls back.")
