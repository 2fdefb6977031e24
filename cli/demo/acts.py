"""The acts of the demo: what each runs, its expected end and its actual end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contract.layout import RunLayout
from contract.records.package import LoadReport

PIPELINE = "digits"
# In production a rung lasts a minute at least; nobody wants to watch six of them.
QUICK = {"deploy.min_seconds_per_step": 3.0}
CONVOLUTIONAL = QUICK | {"train.hyperparameters.architecture": "convolutional"}
# Without the shadow, which would catch it before any caller meets it: here the canary is to.
FAULTY = QUICK | {"serve.fault_ratio": 0.1, "deploy.shadow_requests": 0}

# Of act 1, whose home has no earlier run to learn from; on two idle cores.
TYPICAL_SECONDS = {
    "start": 1.0,
    "ingest": 8.0,
    "validate": 6.0,
    "transform": 22.0,
    "train": 16.0,
    "evaluate": 17.0,
    "bless": 12.0,
    "optimize": 22.0,
    "package": 12.0,
    "canary": 4.0,
    "promote": 4.0,
}


@dataclass(frozen=True)
class Act:
    """One act: what is run, and how it should end."""

    title: str
    expected_outcome: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Played:
    """How an act ended."""

    act: Act
    run: RunLayout
    outcome: str
    reasons: Sequence[str]
    version: int | None
    seconds: float
    callers: LoadReport | None

    @property
    def is_as_expected(self) -> bool:
        """Whether the act ended as expected."""
        return self.outcome == self.act.expected_outcome


ACTS = (
    Act(
        "Act 1: a small dense model, from raw data to production; nothing to compare it with",
        "promoted",
        QUICK,
    ),
    Act(
        "Act 2: a convolutional model; judged, shadowed, tried as a canary, promoted",
        "promoted",
        CONVOLUTIONAL,
    ),
    Act(
        "Act 3: act 2's package again, failing on 10 % of its requests, straight to the canary; "
        "to be rolled back",
        "rolled_back",
        FAULTY,
    ),
)
