"""Traffic plans made from the plan in force; they keep its generation, for compare-and-set."""

from collections.abc import Iterable
from dataclasses import dataclass

from contract.records.traffic import Arm, Shadow, TrafficPlan


@dataclass(frozen=True)
class Note:
    """Who wants the plan, and why."""

    author: str
    reason: str


def on_standby(plan: TrafficPlan, version: int, note: Note) -> TrafficPlan:
    """Return the plan with one more version that runs without traffic."""
    return _changed(plan, plan.arms, plan.shadow, [*plan.standby, version], note)


def with_shadow(plan: TrafficPlan, shadow: Shadow, note: Note) -> TrafficPlan:
    """Return the plan with all traffic on stable and a copy of it on one other version."""
    return _changed(plan, _all_to(plan.champion), shadow, plan.standby, note)


def with_canary(plan: TrafficPlan, version: int, percent: int, note: Note) -> TrafficPlan:
    """Return the plan with so many percent on a canary, the rest on stable.

    The champion stays the stable arm, with weight 0, where the canary has all.
    """
    stable = _stable(plan.champion, 100 - percent)
    canary = Arm(name="canary", version=version, weight_percent=percent)
    return _changed(plan, (*stable, canary), None, plan.standby, note)


def without_trial(plan: TrafficPlan, version: int | None, note: Note) -> TrafficPlan:
    """Return the plan with all traffic on stable, no shadow, and one version out of service."""
    standby = [kept for kept in plan.standby if kept != version]
    return _changed(plan, _all_to(plan.champion), None, standby, note)


def with_champion(plan: TrafficPlan, version: int, note: Note) -> TrafficPlan:
    """Return the plan with all traffic on a new champion and the last one ready for a roll-back."""
    previous = [plan.champion] if plan.champion not in (None, version) else plan.standby[:1]
    standby = [kept for kept in previous if kept is not None]
    return _changed(plan, _all_to(version), None, standby, note)


def out_of_service(plan: TrafficPlan, note: Note) -> TrafficPlan:
    """Return the plan under which nobody answers and nothing runs."""
    return _changed(plan, (), None, (), note)


def is_same_traffic(one: TrafficPlan, other: TrafficPlan) -> bool:
    """Tell whether two plans send the same traffic to the same versions; standby does not count."""
    return one.arms == other.arms and one.shadow == other.shadow


def _all_to(version: int | None) -> tuple[Arm, ...]:
    return _stable(version, 100)


def _stable(version: int | None, percent: int) -> tuple[Arm, ...]:
    if version is None:
        return ()
    return (Arm(name="stable", version=version, weight_percent=percent),)


def _changed(
    plan: TrafficPlan,
    arms: tuple[Arm, ...],
    shadow: Shadow | None,
    standby: Iterable[int],
    note: Note,
) -> TrafficPlan:
    active = {arm.version for arm in arms} | ({shadow.version} if shadow else set())
    return TrafficPlan(
        pipeline=plan.pipeline,
        generation=plan.generation,
        arms=arms,
        shadow=shadow,
        standby=tuple(dict.fromkeys(v for v in standby if v not in active)),
        sticky_header=plan.sticky_header,
        author=note.author,
        reason=note.reason,
    )
