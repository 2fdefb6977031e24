"""How far the answers of what is served may be from the exact model's.

Of an engine in float32 never further than `package.skew_tolerance`. Of one that computes in less
(int8, bfloat16, weights with fewer digits), with a budget of b % of accuracy, it is what was
measured within the budget, times a factor:

* b % of the rows may be answered otherwise, so the worst of the sample rows do not count: half of
  b %, for among rows that were not tried there may be more of them;
* what the others differ by may grow, because rows that were not tried may differ more: to twice as
  much at most, and no further than the budget implies. If all differences on the evaluation rows
  grew by the same factor, the engine would still cost no more than the budget
  (`AnswerJudge.reach`), and beyond what was measured no difference may be so large that, had every
  row it, the class of more than b % of the sample rows would change, or a value would move by more
  than b % of the values' standard deviation in the mean.
"""

from collections.abc import Mapping

import numpy as np

from components.data.raw_examples import Array
from components.models.answer_differences import differences
from components.optimize.engines.comparison import Answers

UNSEEN_ROWS_FACTOR = 2.0  # rows that were not tried may differ more than those that were


def reduced_tolerance(
    expected: Answers,
    found: Answers,
    budget_percent: float,
    least: float,
    reach: float = UNSEEN_ROWS_FACTOR,
) -> float:
    """Return the tolerance of an engine that computes in less than float32.

    Args:
        expected: The exact model's answers to the sample rows, by output.
        found: The engine's, to the same rows.
        budget_percent: What it may cost, in points of accuracy.
        least: The tolerance of an engine in float32.
        reach: By which factor, up to 2, the budget lets its differences grow.
    """
    floats = {n: one for n, one in expected.items() if np.issubdtype(one.dtype, np.floating)}
    if not floats:
        return least
    budget = budget_percent / 100.0
    measured = _all_but(_row_differences(floats, found), budget / 2.0)
    implied = min(_implied(one, budget) for one in floats.values())
    return max(least, min(reach * measured, max(measured, implied)))


def _row_differences(expected: Mapping[str, Array], found: Answers) -> Array:
    """Return each row's largest difference, as `comparison.max_difference` measures it."""
    worst = []
    for name, one in expected.items():
        rows = one.reshape(len(one), -1)
        apart = differences(rows, found[name].reshape(rows.shape))
        worst.append(np.max(np.where(np.isfinite(apart), apart, 0.0), axis=1, initial=0.0))
    return np.asarray(np.max(worst, axis=0))


def _all_but(differences: Array, share: float) -> float:
    """Return what all rows but a share of them keep to."""
    left_out = int(share * len(differences))
    return float(np.sort(differences)[::-1][min(left_out, len(differences) - 1)])


def _implied(answers: Array, share: float) -> float:
    """Return the largest difference that the budget allows every row, as `differences` measures it.

    Answers of several numbers are classes by their last axis, as `judgement.agreement` tells them.
    """
    wide = answers.astype(np.float64)
    wide = wide.reshape(-1, wide.shape[-1]) if wide.ndim > 1 else wide[:, None]
    wide = wide[np.all(np.isfinite(wide), axis=1)]
    if not len(wide):
        return 0.0
    size = np.maximum(np.max(np.abs(wide), axis=1), 1.0)
    if wide.shape[1] > 1:
        first_two = np.sort(wide, axis=1)[:, -2:]
        margins = (first_two[:, 1] - first_two[:, 0]) / 2.0 / size
    elif np.all((wide >= 0.0) & (wide <= 1.0)):
        margins = np.abs(wide[:, 0] - 0.5)
    else:
        return float(share * np.std(wide) / np.mean(size))
    return float(np.sort(margins)[min(int(share * len(margins)), len(margins) - 1)])
