"""The store of traffic plans: proposals are checked, then taken by compare-and-set."""

import contextlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import (
    ConfigError,
    ConflictError,
    DataError,
    NotFoundError,
    SlipwayError,
    UserError,
)
from contract.layout import PipelineLayout
from contract.records.traffic import Arm, Hold, TrafficPlan, Withdrawal
from contract.schema.section import NAME
from contract.schema.serving import HEADER_NAME
from contract.storage import exclusive_lock
from serving.traffic.backend import Capabilities

log = logging.getLogger("slipway.agent")

_MOST_CHARACTERS = 2000  # of who proposes, and why
_MOST_COPIES = (1 << 32) - 1  # Envoy's


@dataclass(frozen=True)
class WithdrawalOrder:
    """Whose trial is withdrawn, who does it, and why."""

    author: str
    by: str
    reason: str


class PlanStore:
    """All plans below one artifact root."""

    def __init__(self, root: Path, capabilities: Capabilities) -> None:
        self._root = root
        self._capabilities = capabilities
        self._restoring = threading.Lock()

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
        """Return the plan in force; generation 0 if there was none.

        A plan that is damaged on storage is put aside and replaced by the copy of the last one.

        Raises:
            DataError: If it is damaged, and there is no sound copy.
        """
        layout = self.layout(pipeline)
        try:
            return TrafficPlan.read(layout.traffic_plan)
        except NotFoundError:
            return TrafficPlan(pipeline=pipeline)
        except DataError:
            return self._restored(layout)

    def copy_all(self) -> None:
        """Make the copies of all sound plans, as after an update from a Slipway without copies."""
        for pipeline in self.pipelines():
            layout = self.layout(pipeline)
            with contextlib.suppress(SlipwayError):
                plan = TrafficPlan.read(layout.traffic_plan)
                plan.write(layout.good_traffic_plan)

    def _restored(self, layout: PipelineLayout) -> TrafficPlan:
        with self._restoring:
            try:
                return TrafficPlan.read(layout.traffic_plan)  # another thread was faster
            except DataError as damage:
                good = _copy_of(layout, damage)
                aside = layout.serving / f"plan.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
                # copied, not moved: at no moment is there no plan, which would mean no traffic
                shutil.copyfile(layout.traffic_plan, aside)
                good.write(layout.traffic_plan)
                log.error("%s; the copy of plan %d is in its place", damage, good.generation)
                return good

    def _store(self, plan: TrafficPlan) -> TrafficPlan:
        layout = self.layout(plan.pipeline)
        plan.write(layout.traffic_plan)
        plan.write(layout.good_traffic_plan)
        return plan

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
            return self._store(plan.stored_after(current, datetime.now(UTC)))

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

    def withdraw(self, seen: TrafficPlan, by: str, reason: str) -> TrafficPlan | None:
        """Give stable the traffic of a trial without a controller; return the plan as stored.

        Its version stays ready: a retry of its run continues the trial. None if the plan is not the
        one that was seen any more.
        """
        with self._locked(self._existing(seen.pipeline)):
            plan = self.current(seen.pipeline)
            if plan.generation != seen.generation or plan.trial is None or plan.champion is None:
                return None
            order = WithdrawalOrder(plan.author, by, reason)
            return self._without_trial(plan, order, is_kept_ready=True)

    def withdraw_for_good(self, pipeline: str, order: WithdrawalOrder) -> TrafficPlan:
        """End the trial of a run that has failed for good; return the plan as stored.

        Raises:
            ConflictError: If no trial of this run is in the plan.
        """
        with self._locked(self._existing(pipeline)):
            plan = self.current(pipeline)
            gone = plan.withdrawn
            is_withdrawn = gone is not None and gone.author == order.author
            is_on_trial = plan.trial is not None and plan.author == order.author
            if plan.champion is None or not (is_on_trial or is_withdrawn):
                raise ConflictError(f"pipeline '{pipeline}': no trial of '{order.author}'")
            return self._without_trial(plan, order, is_kept_ready=False)

    def _without_trial(
        self, plan: TrafficPlan, order: WithdrawalOrder, is_kept_ready: bool
    ) -> TrafficPlan:
        now = datetime.now(UTC)
        gone = plan.withdrawn or _withdrawal(plan, order, now)
        standby = [version for version in plan.standby if version != gone.version]
        wanted = plan.model_copy(
            update={
                "arms": (Arm(name="stable", version=plan.champion, weight_percent=100),),
                "shadow": None,
                "standby": (*standby, *([gone.version] if is_kept_ready else [])),
                "author": order.by,
                "reason": order.reason,
            }
        )
        stored = wanted.stored_after(plan, now).model_copy(update={"withdrawn": gone})
        return self._store(stored)

    def _with_hold(self, plan: TrafficPlan, hold: Hold | None) -> TrafficPlan:
        changes = {
            "hold": hold,
            "generation": plan.generation + 1,
            "written_at": datetime.now(UTC),
        }
        return self._store(plan.model_copy(update=changes))

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
        yield from _unfit(plan)
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


def _unfit(plan: TrafficPlan) -> Iterator[str]:
    """Yield what would make the plan a large file, or Envoy refuse it with everybody's plans."""
    for name, text in (("author", plan.author), ("reason", plan.reason)):
        if len(text) > _MOST_CHARACTERS:
            yield f"{name}: {len(text):,} characters, expected at most {_MOST_CHARACTERS:,}"
    header = plan.sticky_header
    if header and (not re.fullmatch(HEADER_NAME, header) or header == "authorization"):
        yield f"sticky_header: found {header!r:.100}, expected a header's name such as 'x-user-id'"
    if plan.shadow is not None and not 1 <= plan.shadow.max_concurrent_requests <= _MOST_COPIES:
        yield (
            f"shadow: max_concurrent_requests: expected a number from 1 to {_MOST_COPIES:,}, found "
            f"{plan.shadow.max_concurrent_requests}"
        )


def _withdrawal(plan: TrafficPlan, order: WithdrawalOrder, now: datetime) -> Withdrawal:
    assert plan.trial is not None
    version, percent = plan.trial
    return Withdrawal(
        version=version,
        weight_percent=percent,
        author=order.author,
        by=order.by,
        reason=order.reason,
        withdrawn_at=now,
    )


def _copy_of(layout: PipelineLayout, damage: DataError) -> TrafficPlan:
    if _is_of_a_newer_slipway(layout.traffic_plan):
        raise damage
    try:
        return TrafficPlan.read(layout.good_traffic_plan)
    except SlipwayError as error:
        raise DataError(
            f"{damage}; there is no sound copy ({error}); repair it, or move it away and promote a "
            f"version by number: slipway promote {layout.pipeline} --version N --force"
        ) from damage


def _is_of_a_newer_slipway(path: Path) -> bool:
    """Tell whether a plan that cannot be read is complete, but of a newer version of Slipway."""
    try:
        version = json.loads(path.read_bytes())["record_version"]
    except (OSError, ValueError, TypeError, LookupError):
        return False
    return isinstance(version, int) and version > TrafficPlan.current_version
