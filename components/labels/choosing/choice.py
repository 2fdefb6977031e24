"""Choosing rows to ask about: by worth, within a budget per day and class, with an audit slice."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from components.labels.choosing.candidates import Candidates
from components.labels.choosing.sampling import (
    Doubles,
    Places,
    either,
    proportional,
    systematic,
)
from components.labels.choosing.variety import cells, groups_of


@dataclass(frozen=True)
class Budget:
    """How many questions may be asked.

    Attributes:
        per_day: Of the log's days, audit included; on average, and exactly but for rounding.
        per_class: Of a predicted class and day, audit not included; None: no limit.
        audit_ratio: Share of `per_day` that is chosen without regard to worth, above 0.
    """

    per_day: int
    per_class: int | None = None
    audit_ratio: float = 0.1


@dataclass(frozen=True)
class Variety:
    """How far the chosen rows differ.

    Attributes:
        tolerance: Rows whose sketches are about so near are asked about once; 0: only equal ones.
        centres: Number of groups over which the choice is spread.
        asked: Cells of rows that people were asked about before.
    """

    tolerance: float = 0.02
    centres: int = 64
    asked: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))


@dataclass(frozen=True)
class Chosen:
    """Rows to ask about.

    `probabilities` are those of the row's choice: a label weighs one over it. An audit row was
    chosen without regard to worth, with `audit_probabilities`; where audit rows are kept out of
    training, the others weigh one over the difference.
    """

    places: Places  # among the candidates
    probabilities: Doubles
    audit_probabilities: Doubles
    is_audit: NDArray[np.bool_]


@dataclass(frozen=True)
class _Groups:
    """Rows that are nearly the same: sizes, the first of each, and all rows group by group."""

    sizes: Places
    firsts: Places
    starts: Places
    rows: Places


def choose(
    candidates: Candidates,
    worth: Doubles,
    budget: Budget,
    variety: Variety,
    random: np.random.Generator,
) -> Chosen:
    """Choose rows at random, each with a known probability.

    Of rows that are nearly the same one is asked, any with the same probability; their common
    probability is proportional to the worth of the best of them. Those that are nearly the same as
    a row that was asked about before are worth nothing: only the audit chooses them, so that each
    row still has its chance to be chosen, and labels of several choices measure all rows of all of
    them. Within a class, neighbours in the order of their nearest centre are seldom chosen
    together (see `systematic`).

    Args:
        candidates: The rows.
        worth: From 0 to 1, shape ``[rows]``. Rows of worth 0 are chosen by the audit only.
        budget: How many.
        variety: How different.
        random: Where the choice comes from.
    """
    in_cells, numbers = np.unique(
        cells(candidates.sketches, variety.tolerance), return_inverse=True
    )
    groups = _groups(numbers.ravel())
    best = np.maximum.reduceat(worth[groups.rows], groups.starts)
    best[np.isin(in_cells, variety.asked)] = 0
    sketches, scores = candidates.sketches, candidates.scores
    near = groups_of(sketches, scores, groups.firsts, variety.centres, random)
    classes = candidates.predicted[groups.firsts]
    days = candidates.days[groups.firsts]
    parts = []
    for day in np.unique(days):
        of_day = np.flatnonzero(days == day)
        of_day = of_day[np.lexsort((near[of_day], classes[of_day]))]
        parts.append(_choose_day(groups, of_day, best[of_day], classes[of_day], budget, random))
    return Chosen(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _choose_day(  # noqa: PLR0913 (arrays of one day, side by side)
    groups: _Groups,
    own: Places,
    worth: Doubles,
    classes: Places,
    budget: Budget,
    random: np.random.Generator,
) -> tuple[Places, Doubles, Doubles, NDArray[np.bool_]]:
    """Choose among the groups `own` of a day, in the order in which the choice is spread."""
    sizes = groups.sizes[own]
    audits = budget.per_day * budget.audit_ratio
    by_worth = _within_classes(worth, classes, budget.per_day - audits, budget.per_class)
    by_chance = proportional(sizes.astype(float), audits)
    first = systematic(by_worth, random.random())
    audit = systematic(by_chance, random.random())
    taken = np.union1d(first, audit)
    members = groups.starts[own[taken]] + random.integers(0, sizes[taken])
    return (
        groups.rows[members],
        either(by_worth, by_chance)[taken] / sizes[taken],
        by_chance[taken] / sizes[taken],
        np.isin(taken, audit),
    )


def _within_classes(
    worth: Doubles, classes: Places, count: float, per_class: int | None
) -> Doubles:
    """Return probabilities by worth; a class that would get too many leaves the rest to others."""
    if per_class is None:
        return proportional(worth, count)
    found, is_open = np.zeros(len(worth)), np.ones(len(worth), np.bool_)
    while is_open.any():
        trial = proportional(np.where(is_open, worth, 0.0), count)
        expected = np.bincount(classes, trial)
        excess = np.flatnonzero(expected > per_class + 1e-9)
        if not len(excess):
            return np.where(is_open, trial, found)
        for one in excess:
            own = is_open & (classes == one)
            found[own] = proportional(worth[own], per_class)
            is_open &= ~own
            count -= per_class
        count = max(count, 0.0)
    return found


def _groups(numbers: NDArray[np.intp]) -> _Groups:
    sizes = np.bincount(numbers)
    rows = np.argsort(numbers, kind="stable")
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    return _Groups(sizes, rows[starts], starts, rows)
