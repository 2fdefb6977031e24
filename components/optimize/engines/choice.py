"""Which engine is chosen, of those that were tried."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.optimize.engines.comparison import Answers, agreement_ratio, max_difference
from components.optimize.engines.tolerances import UNSEEN_ROWS_FACTOR, reduced_tolerance
from components.optimize.judging.judgement import AnswerCost
from components.quality.answer_distances import distances, usual_size
from components.quality.row_independence import TOLERANCE
from contract.errors import UserCodeError
from contract.records.optimization import EngineMeasurement, Machine, ServedEngine
from contract.schema.optimize import EnginesConfig

TENSORFLOW = "tensorflow"
# Two engines are equally fast if their times differ by less: that much do they differ from
# one trial to the next.
_SAME_SPEED_RATIO = 1.1


@dataclass(frozen=True)
class Tried:
    """What was seen of one candidate.

    Attributes:
        name: The candidate.
        is_reduced: Whether it computes in less than float32 (bf16, int8).
        size_bytes: Of all its files.
        figures: By the field of `EngineMeasurement`.
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
    judgement: AnswerCost | None = None
    float_layers: tuple[str, ...] = ()
    no_rescue: str = ""
    machine: Machine | None = None
    failure: str = ""

    @property
    def cost_points(self) -> float:
        """Points that it loses: infinite if it failed, or its answers are not numbers."""
        if self.failure:
            return math.inf
        return self.judgement.cost_percent if self.judgement is not None else 0.0


def choose(
    tried: Sequence[Tried],
    expected: Answers,
    settings: EnginesConfig,
    skew_tolerance: float | None = None,
    row_tolerance: float = TOLERANCE,
) -> ServedEngine:
    """Return the fastest that answers alike and keeps to the limits, and the table of all.

    Speed is the geometric mean of the CPU time of a call with 1 and with 32 rows: what a request
    costs, and steadier than wall time where other processes run. Of those as fast as the fastest
    the one that takes the least memory is taken. bf16 and int8 must be `settings.min_speedup` times
    as fast as that one to replace it; if no float32 one keeps to the limits, they must be so much
    faster than TensorFlow. If none keeps to the limits, TensorFlow is used, and the reason says so.

    Args:
        tried: TensorFlow first.
        expected: The float SavedModel's answers to all sample rows, by output.
        settings: The limits.
        skew_tolerance: The `package.skew_tolerance` that those in float32 will have to keep to;
            None: no package is made of it.
        row_tolerance: How far TensorFlow's answers to the same row may be apart.

    Raises:
        UserCodeError: If TensorFlow in float32 answers otherwise than TensorFlow in this process.
    """
    _require_same_tensorflow(tried[0], expected, max(settings.tolerance, row_tolerance))
    others = _held_to_skew(settings, skew_tolerance)
    table = [_measured(tried[0], expected, settings)]
    table += [_measured(one, expected, others) for one in tried[1:]]
    eligible = [row for row in table if row.is_eligible]
    reduced = {one.name for one in tried if one.is_reduced}
    best = _fastest([row for row in eligible if row.name not in reduced])
    best = best or (table[0] if table[0].is_eligible else None)
    quick = _fastest([row for row in eligible if row.name in reduced])
    # Without a float32 engine int8 has to be better than TensorFlow, not just left over.
    replaced = best or (None if tried[0].failure else table[0])
    chosen = quick if _replaces(quick, replaced, settings.min_speedup) else best
    reason = "" if chosen is None else _reason(chosen, table[0])
    if chosen is None:
        chosen = table[0]
        reason = "every engine has a problem: " + "; ".join(f"{r.name} {r.reason}" for r in table)
    return ServedEngine(
        name=chosen.name,
        tolerance=_tolerance(
            next(one for one in tried if one.name == chosen.name),
            expected,
            settings,
            skew_tolerance,
        ),
        exempt_ratio=(settings.max_accuracy_loss_points / 100.0 if chosen.name in reduced else 0.0),
        measured=tuple(table),
        reason=reason,
    )


def next_best(
    tried: Sequence[Tried],
    expected: Answers,
    settings: EnginesConfig,
    skew_tolerance: float | None = None,
    row_tolerance: float = TOLERANCE,
) -> Iterator[ServedEngine]:
    """Yield what would be chosen without the one before it, until TensorFlow would be.

    The arguments are those of `choose`, which yields the first.
    """
    left = list(tried)
    while True:
        chosen = choose(left, expected, settings, skew_tolerance, row_tolerance)
        if chosen.name == TENSORFLOW:
            return
        yield chosen
        left = [one for one in left if one.name != chosen.name]


def _require_same_tensorflow(one: Tried, expected: Answers, tolerance: float) -> None:
    if one.is_reduced or one.failure:
        return
    wanted = _first_rows(expected, one.answers)
    apart = max(
        float(np.max(distances(value, one.answers[name], usual_size(value)), initial=0.0))
        for name, value in wanted.items()
    )
    if apart > tolerance:
        raise UserCodeError(
            f"TensorFlow answers the same rows differently (by {apart:.3g}) in another process and "
            "in batches of another size: the answer to a row depends on more than the row, or "
            "changes from call to call. No engine can be held to such answers"
        )


def _held_to_skew(settings: EnginesConfig, skew_tolerance: float | None) -> EnginesConfig:
    """Return the settings for engines, whose rows that are not tried may differ more."""
    if skew_tolerance is None:
        return settings
    most = min(settings.tolerance, skew_tolerance / UNSEEN_ROWS_FACTOR)
    return settings.model_copy(update={"tolerance": most})


def _first_rows(expected: Answers, found: Answers) -> Answers:
    rows = len(next(iter(found.values())))
    return {name: array[:rows] for name, array in expected.items()}


def _measured(one: Tried, expected: Answers, settings: EnginesConfig) -> EngineMeasurement:
    if one.failure:
        return EngineMeasurement(
            name=one.name, is_eligible=False, reason=f"left out: {one.failure}"
        )
    wanted = _first_rows(expected, one.answers)
    row = EngineMeasurement(
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


def _judged(judgement: AnswerCost | None) -> dict[str, Any]:
    if judgement is None:
        return {}
    return {
        "cost_points": judgement.cost_percent,
        "metric": judgement.metric,
        "metric_difference": judgement.metric_difference,
    }


def _differences(row: EngineMeasurement, one: Tried, settings: EnginesConfig) -> list[str]:
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
            f"{settings.tolerance:g} is allowed (tolerance, or half of package.skew_tolerance)"
        ]
    return []


def _beyond(row: EngineMeasurement, settings: EnginesConfig) -> list[str]:
    """Say which limits it does not keep to."""
    found = []
    if settings.max_p99_ms is not None and row.p99_ms_batch_1 > settings.max_p99_ms:
        found.append(f"p99 {row.p99_ms_batch_1:.3g} ms, limit {settings.max_p99_ms:g} ms")
    least = settings.min_rows_per_second
    if least is not None and row.rows_per_second < least:
        found.append(f"{row.rows_per_second:.0f} rows/s, at least {least:g} are required")
    if settings.max_memory_mb is not None and row.memory_mb > settings.max_memory_mb:
        found.append(f"memory {row.memory_mb:.0f} MB, limit {settings.max_memory_mb:g} MB")
    return [f"left out: {problem}" for problem in found]


def _milliseconds(row: EngineMeasurement) -> float:
    return math.sqrt(row.cpu_ms_batch_1 * row.cpu_ms_batch_32)


def _fastest(rows: Sequence[EngineMeasurement]) -> EngineMeasurement | None:
    if not rows:
        return None
    least = min(map(_milliseconds, rows))
    as_fast = [row for row in rows if _milliseconds(row) <= least * _SAME_SPEED_RATIO]
    return min(as_fast, key=lambda row: row.memory_mb)


def _replaces(
    quick: EngineMeasurement | None, replaced: EngineMeasurement | None, min_speedup: float
) -> bool:
    if quick is None or replaced is None:
        return False
    return _milliseconds(replaced) >= min_speedup * _milliseconds(quick)


def _tolerance(
    chosen: Tried, expected: Answers, settings: EnginesConfig, skew_tolerance: float | None
) -> float:
    """Return how far its answers to any row may be from the float SavedModel's."""
    exact = settings.tolerance
    if skew_tolerance is not None:
        exact = min(exact, skew_tolerance)
    if chosen.is_reduced and not chosen.failure:
        wanted = _first_rows(expected, chosen.answers)
        budget = settings.max_accuracy_loss_points
        reach = UNSEEN_ROWS_FACTOR if chosen.judgement is None else chosen.judgement.reach
        return reduced_tolerance(wanted, chosen.answers, budget, exact, reach)
    return 0.0 if chosen.name == TENSORFLOW else exact


def _reason(chosen: EngineMeasurement, tensorflow: EngineMeasurement) -> str:
    if chosen.name == TENSORFLOW or not tensorflow.cpu_ms_batch_1:
        return "the fastest that keeps to the limits"
    speedup = _milliseconds(tensorflow) / _milliseconds(chosen)
    return (
        f"{speedup:.1f} times as fast as tensorflow, "
        f"{chosen.memory_mb:.0f} MB instead of {tensorflow.memory_mb:.0f} MB"
    )
