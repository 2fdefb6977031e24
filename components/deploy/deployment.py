"""What one deployment is about, and the clock it goes by."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.runs.agent_client import AgentClient
from components.runs.tracking import Tracker
from contract.layout import PipelineLayout
from contract.records.evaluation import BlessRecord
from contract.records.package import PackageManifest
from contract.schema.imported import DeployingConfig
from contract.schema.pipeline import PipelineConfig


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """Time as the deployment sees it; tests bring their own."""

    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


SYSTEM_CLOCK = Clock()


@dataclass(frozen=True)
class Deployment:
    """One version on its way to production.

    `bless` is None where a kept version is deployed again, and of an imported model: nobody blesses
    them.
    `author` is what the plans of this run are signed with, so that it knows its own after a kill.
    `output` is where the canary keeps its state. `check_attempt` raises ConflictError once a later
    attempt at the step has begun: the earlier one must not touch the plan any more.
    """

    client: AgentClient
    layout: PipelineLayout
    config: PipelineConfig | DeployingConfig
    manifest: PackageManifest
    bless: BlessRecord | None
    author: str
    output: Path
    tracker: Tracker
    check_attempt: Callable[[], None]
    clock: Clock = SYSTEM_CLOCK

    @property
    def version(self) -> int:
        return self.manifest.version
