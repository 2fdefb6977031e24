"""Which runtime is taken, of those that were tried."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.optimize.engines.comparison import Answers, agreement_ratio, max_difference
from components.optimize.judging.judgement import Judgement
from contract.records.optimization import Machine, RuntimeMeasurement, ServedRuntime
from contract.schema.optimize import EnginesConfig

TENSORFLOW = "tensorflow"
# Two runtimes are as fast as each other if their times differ by less: so much do they differ from
# one trial to the next.
_SAME_SPEED_RATIO = 1.1
# Rows that were not tried may differ more than those that were.
_UNSEEN_ROWS_FACTOR = 2.0


@dataclass(frozen=True)
class Tried:
    """What was seen of one candidate.

    Attributes:
        name: The candidate.
        is_reduced: Whether it computes in less than float32 (bf16, int8).
        size_bytes: Of all its files.
        figures: By the field of `RuntimeMeasurement`.
        answers: To the sample rows, or the first of them, by output.
        judgement: What it costs on the evaluation rows; of one that computes in less than float32.
        float_layers: Left in float so that it costs less.
        no_rescue: Why float layers did not bring one back that costs too much.
        machine: Where it was measured.
        failure: Why it could not be tried; then there are no figures.
    """

    name: str
    is_reduced: bool
    size_bytes: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    answers: Answers = field(default_factory=dict)
    judgement: Judgement | None = None
    float_layers: tuple[str, ...] = ()
    no_rescue: str = ""
    machine: Machine | None = None
    failure: str = ""

    @property
    def cost_points(self) -> float:
        """Points that it loses: infinite if it failed, or answers what is no number."""
        if self.failure:
            return math.inf
        return self.judgement.cost_percent if self.judgement is not None else 0.0


def choose(tried: Sequence[Tried], expected: Answers, settings: EnginesConfig) -> ServedRuntime:
    """Return the fastest that answers alike and keeps to the limits, and the table of all.

    Speed is the geometric mean of the CPU time of a call with 1 and with 32 rows: what a request
    costs, and steadier than wall time where other processes run. Of those as fast as the fastest
    the one that takes the least memory is taken. bf16 and int8 must be `settings.min_speedup` times
    as fast as that one to replace it. If none keeps to the limits, TensorFlow goes on, and the
    reason says so.

    Args:
        tried: TensorFlow first.
        expected: The float SavedModel's answers to all sample rows, by output.
        settings: The limits.
    """
    table = [_measured(one, expected, settings) for one in tried]
    eligible = [row for row in table if row.is_eligible]
    reduced = {one.name for one in tried if one.is_reduced}
    best = _fastest([row for row in eligible if row.name not in reduced])
    quick = _fastest([row for row in eligible if row.name in reduced])
    chosen = quick if _replaces(quick, best, settings.min_speedup) else best
    reason = "" if chosen is None else _reason(chosen, table[0])
    if chosen is None:
        chosen = table[0]
        reason = "none is without fault: " + "; ".join(f"{r.name} {r.reason}" for r in table)
    return ServedRuntime(
        name=chosen.name,
        tolerance=_tolerance(chosen, chosen.name in reduced, settings),
        measured=tuple(table),
        reason=reason,
    )


def _measured(one: Tried, expected: Answers, settings: EnginesConfig) -> RuntimeMeasurement:
    if one.failure:
        return RuntimeMeasurement(
            name=one.name, is_eligible=False, reason=f"left out: {one.failure}"
        )
    rows = len(next(iter(one.answers.values())))
    wanted = {name: array[:rows] for name, array in expected.items()}
    row = RuntimeMeasurement(
        name=one.name,
        is_eligible=True,
        size_bytes=one.size_bytes,
        max_difference=max_difference(wanted, one.answers),
        agreement_ratio=agreement_ratio(wanted, one.answers),
        float_layers=one.float_layers,
        machine=one.machine,
        **_judged(one.judgement),
        **one.figures,
    )
    problems = [*_differences(row, one, settings), *_beyond(row, settings)]
    return row.model_copy(update={"is_eligible": not problems, "reason": "; ".join(problems)})


def _judged(judgement: Judgement | None) -> dict[str, Any]:
    if judgement is None:
        return {}
    return {
        "cost_points": judgement.cost_percent,
        "metric": judgement.metric,
        "metric_difference": judgement.metric_difference,
    }


def _differences(row: RuntimeMeasurement, one: Tried, settings: EnginesConfig) -> list[str]:
    if one.judgement is not None and one.cost_points > settings.max_accuracy_loss_points:
        return [
            f"left out: costs {one.judgement.in_words}, at most "
            f"{settings.max_accuracy_loss_points:g} are allowed (max_accuracy_loss_points)"
            + (f"; {one.no_rescue}" if one.no_rescue else "")
        ]
    if one.is_reduced and math.isfinite(row.max_difference):
        return []
    if row.max_difference > settings.tolerance:
        return [
            f"left out: answers differ from TensorFlow's by {row.max_difference:.3g}, at most "
            f"{settings.tolerance:g} is allowed (tolerance)"
        ]
    return []


def _beyond(row: RuntimeMeasurement, settings: EnginesConfig) -> list[str]:
    """Say which limits it does not keep to."""
    found = []
    if settings.max_p99_ms is not None and row.p99_ms_batch_1 > settings.max_p99_ms:
        found.append(f"p99 {row.p99_ms_batch_1:.3g} ms, limit {settings.max_p99_ms:g} ms")
    least = settings.min_rows_per_second
    if least is not None and row.rows_per_second < least:
        found.append(f"{row.rows_per_second:.0f} rows/s, at least {least:g} are wanted")
    if settings.max_memory_mb is not None and row.memory_mb > settings.max_memory_mb:
        found.append(f"memory {row.memory_mb:.0f} MB, limit {settings.max_memory_mb:g} MB")
    return [f"left out: {problem}" for problem in found]


def _milliseconds(row: RuntimeMeasurement) -> float:
    return math.sqrt(row.cpu_ms_batch_1 * row.cpu_ms_batch_32)


def _fastest(rows: Sequence[RuntimeMeasurement]) -> RuntimeMeasurement | None:
    if not rows:
        return None
    least = min(map(_milliseconds, rows))
    as_fast = [row for row in rows if _milliseconds(row) <= least * _SAME_SPEED_RATIO]
    return min(as_fast, key=lambda row: row.memory_mb)


def _replaces(
    quick: RuntimeMeasurement | None, best: RuntimeMeasurement | None, min_speedup: float
) -> bool:
    if quick is None or best is None:
        return best is None
    return _milliseconds(best) >= min_speedup * _milliseconds(quick)


def _tolerance(chosen: RuntimeMeasurement, is_reduced: bool, settings: EnginesConfig) -> float:
    """Return how far its answers to any row may be from the float SavedModel's."""
    if is_reduced:
        return _UNSEEN_ROWS_FACTOR * max(chosen.max_difference, settings.tolerance)
    return 0.0 if chosen.name == TENSORFLOW else settings.tolerance


def _reason(chosen: RuntimeMeasurement, tensorflow: RuntimeMeasurement) -> str:
    if chosen.name == TENSORFLOW or not tensorflow.cpu_ms_batch_1:
        return "the fastest that keeps to the limits"
    speedup = _milliseconds(tensorflow) / _milliseconds(chosen)
    return (
        f"{speedup:.1f} times as fast as tensorflow, "
        f"{chosen.memory_mb:.0f} MB instead of {tensorflow.memory_mb:.0f} MB"
    )
