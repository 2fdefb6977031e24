"""The store of traffic plans: proposals are checked, then taken by compare-and-set."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import ConfigError, ConflictError, NotFoundError, UserError
from contract.layout import PipelineLayout
from contract.records.traffic import Hold, TrafficPlan
from contract.schema.section import NAME
from contract.storage import exclusive_lock
from serving.traffic.backend import Capabilities


class PlanStore:
    """All plans below one artifact root."""

    def __init__(self, root: Path, capabilities: Capabilities) -> None:
        self._root = root
        self._capabilities = capabilities

    def layout(self, pipeline: str) -> PipelineLayout:
        """Return a pipeline's folders; a name that no pipeline can have is refused."""
        if not re.fullmatch(NAME, pipeline):
            raise NotFoundError(f"pipeline '{pipeline}': not a pipeline's name")
        return PipelineLayout(self._root, pipeline)

    def pipelines(self) -> list[str]:
        """Return the pipelines that have a plan, by name."""
        plans = PipelineLayout(self._root, "*").traffic_plan.relative_to(self._root)
        names = (path.relative_to(self._root).parts[0] for path in self._root.glob(str(plans)))
        return sorted(name for name in names if re.fullmatch(NAME, name))

    def current(self, pipeline: str) -> TrafficPlan:
        """Return the plan in force; generation 0 if there was none."""
        path = self.layout(pipeline).traffic_plan
        return TrafficPlan.read(path) if path.exists() else TrafficPlan(pipeline=pipeline)

    def propose(self, plan: TrafficPlan) -> TrafficPlan:
        """Store a plan if its generation is still the one in force; return it as stored.

        Raises:
            ConflictError: If another plan was stored since that generation was read.
            ConfigError, NotFoundError: If no data plane could follow it.
        """
        layout = self._existing(plan.pipeline)
        self._check(plan, layout)
        with self._locked(layout):
            current = self.current(plan.pipeline)
            if plan.generation != current.generation:
                raise ConflictError(
                    f"pipeline '{plan.pipeline}': the plan has changed: generation "
                    f"{current.generation} (by '{current.author}') is in force, this proposal was "
                    f"made on {plan.generation}. Read the plan again and decide again."
                )
            stored = plan.stored_after(current, datetime.now(UTC))
            stored.write(layout.traffic_plan)
        return stored

    def pause(self, pipeline: str, author: str, reason: str) -> TrafficPlan:
        """Hold the trial in the plan where it is; return the plan as stored.

        The generation rises, so that a proposal made before the pause is refused. Who pauses a
        trial that is on hold already changes nothing.

        Raises:
            UserError: If there is no trial.
        """
        with self._locked(self._existing(pipeline)):
            plan = self.current(pipeline)
            if plan.trial is None:
                raise UserError(f"pipeline '{pipeline}': no trial is in progress, nothing to pause")
            if plan.hold is not None:
                return plan
            version, percent = plan.trial
            now = datetime.now(UTC)
            hold = Hold(
                version=version, weight_percent=percent, author=author, reason=reason, since=now
            )
            return self._with_hold(plan, hold)

    def resume(self, pipeline: str) -> TrafficPlan:
        """Let a trial on hold continue; return the plan as stored.

        Raises:
            UserError: If none is on hold.
        """
        with self._locked(self._existing(pipeline)):
            plan = self.current(pipeline)
            if plan.hold is None:
                raise UserError(f"pipeline '{pipeline}': no trial is paused, nothing to resume")
            return self._with_hold(plan, None)

    def _with_hold(self, plan: TrafficPlan, hold: Hold | None) -> TrafficPlan:
        changes = {
            "hold": hold,
            "generation": plan.generation + 1,
            "written_at": datetime.now(UTC),
        }
        stored = plan.model_copy(update=changes)
        stored.write(self.layout(plan.pipeline).traffic_plan)
        return stored

    def _existing(self, pipeline: str) -> PipelineLayout:
        layout = self.layout(pipeline)
        if not layout.path.is_dir():
            raise NotFoundError(f"pipeline '{pipeline}': not found at {layout.path}")
        return layout

    @staticmethod
    def _locked(layout: PipelineLayout) -> AbstractContextManager[None]:
        return exclusive_lock(layout.traffic_plan.with_suffix(".lock"))

    def _check(self, plan: TrafficPlan, layout: PipelineLayout) -> None:
        if unknown := sorted(plan.versions - set(layout.kept_versions())):
            raise NotFoundError(
                f"pipeline '{plan.pipeline}': no version {', '.join(map(str, unknown))} "
                f"(kept: {layout.kept_in_words})"
            )
        if problems := list(self._problems(plan)):
            raise ConfigError([f"pipeline '{plan.pipeline}': {problem}" for problem in problems])

    def _problems(self, plan: TrafficPlan) -> Iterator[str]:
        can = self._capabilities
        if len(plan.arms) > can.max_arms:
            yield f"{len(plan.arms)} arms, expected at most {can.max_arms}"
        for arm in plan.arms:
            if arm.weight_percent % can.weight_step_percent:
                yield (
                    f"arm {arm.name}: weight {arm.weight_percent} %, expected a multiple of "
                    f"{can.weight_step_percent}"
                )
        if plan.shadow is None:
            return
        if not can.has_shadow:
            yield "a shadow, which this data plane does not support"
        if plan.champion is None:
            yield "a shadow without a stable arm: no traffic to copy"
        if plan.shadow.version in {arm.version for arm in plan.arms}:
            yield f"version {plan.shadow.version} is both an arm and the shadow"
