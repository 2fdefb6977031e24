"""The choice: budgets, one of near duplicates, an audit, and probabilities that are true."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from components.labels.choosing.candidates import Candidates
from components.labels.choosing.choice import Budget, Chosen, Variety, choose
from components.labels.choosing.variety import cells, centres, groups_of, last_layer, nearest


def make_candidates(size: int, days: int = 1, seed: int = 0) -> Candidates:
    random = np.random.default_rng(seed)
    return Candidates(
        request_ids=pa.chunked_array([[f"r{n}" for n in range(size)]]),
        rows=np.zeros(size, np.int32),
        versions=np.ones(size, np.int32),
        days=(np.arange(size) % days).astype(np.int32),
        scores=random.dirichlet([1, 1, 1], size).astype(np.float32),
        sketches=random.standard_normal((size, 16)).astype(np.float32),
    )


def chosen(candidates: Candidates, budget: Budget, seed: int = 0, worth: float = 1.0) -> Chosen:
    worths = np.linspace(0.1, worth, len(candidates))
    return choose(candidates, worths, budget, Variety(centres=4), np.random.default_rng(seed))


def test_each_day_has_its_budget() -> None:
    found = chosen(make_candidates(900, days=3), Budget(per_day=20))
    by_day = Counter((found.places % 3).tolist())
    # two choices of 18 and 2, in which a row may be twice
    assert all(18 <= by_day[day] <= 20 for day in range(3))


def test_no_class_has_more_than_its_share_and_others_use_the_rest() -> None:
    candidates = make_candidates(600)
    scores = np.full((600, 3), 0.1, np.float32)
    scores[np.arange(600), [0] * 500 + [1] * 50 + [2] * 50] = 0.8
    candidates = Candidates(**{**vars(candidates), "scores": scores})
    budget = Budget(per_day=50, per_class=10, audit_ratio=0.2)
    found = chosen(candidates, budget)
    by_class = Counter(candidates.predicted[found.places[~found.is_audit]].tolist())
    assert max(by_class.values()) <= 11  # 10 on average: the ends of its stretch may fall inside
    assert sum(by_class.values()) >= 27


def test_probabilities_are_those_with_which_rows_are_chosen() -> None:
    candidates = make_candidates(40)
    sketches = candidates.sketches.copy()
    sketches[10:14] = sketches[10]  # four of the same
    candidates = Candidates(**{**vars(candidates), "sketches": sketches})
    draws, counts, audits = 1_000, np.zeros(40), np.zeros(40)
    told = {"any": np.zeros(40), "audit": np.zeros(40)}
    for seed in range(draws):
        found = chosen(candidates, Budget(per_day=8, audit_ratio=0.25), seed)
        counts[found.places] += 1
        audits[found.places[found.is_audit]] += 1
        told["any"][found.places] = found.probabilities
        told["audit"][found.places] = found.audit_probabilities
        assert np.isin(found.places, range(10, 14)).sum() <= 1
    error = np.sqrt(told["any"] * (1 - told["any"]) / draws)
    assert (np.abs(counts / draws - told["any"]) < 4.5 * error).all()
    assert audits / draws == pytest.approx(told["audit"], abs=0.035)
    assert told["any"][10:14] == pytest.approx([told["any"][10]] * 4)
    assert told["audit"] == pytest.approx([2 / 40] * 40)


def test_what_is_nearly_the_same_as_a_row_asked_before_is_chosen_by_the_audit_only() -> None:
    candidates = make_candidates(60)
    before = candidates.sketches[:50] + np.float32(1e-6)
    variety = Variety(asked=cells(before, Variety().tolerance))
    worth, random = np.full(60, 0.5), np.random.default_rng(0)
    found = choose(candidates, worth, Budget(20, audit_ratio=0.5), variety, random)
    by_worth = found.places[~found.is_audit].tolist()
    assert by_worth and min(by_worth) >= 50
    assert (found.places < 50).sum() >= 5
    old = found.places < 50
    assert found.probabilities[old] == pytest.approx(found.audit_probabilities[old])


def test_labels_of_two_choices_measure_the_rows_of_both_without_bias() -> None:
    """A half of the second day's rows were there on the first, and wrong rows are worth most."""
    days = make_candidates(80, seed=1), make_candidates(80, seed=2)
    days[1].sketches[:40] = days[0].sketches[:40]
    is_wrong = [np.arange(80) % 40 < 10] * 2
    worth, budget, draws = np.where(is_wrong[0], 0.9, 0.2), Budget(16, audit_ratio=0.25), 250
    estimates, again = np.zeros(draws), 0
    for draw in range(draws):
        random, asked = np.random.default_rng(draw), np.zeros(0, np.uint64)
        for day, wrong in zip(days, is_wrong, strict=True):
            found = choose(day, worth, budget, Variety(centres=1, asked=asked), random)
            estimates[draw] += (wrong[found.places] / found.probabilities).sum() / 160
            numbers = cells(day.sketches[found.places[~found.is_audit]], Variety().tolerance)
            again += np.isin(numbers, asked).sum()
            asked = numbers
    error = estimates.std() / np.sqrt(draws)
    assert again == 0
    assert estimates.mean() == pytest.approx(0.25, abs=4 * error)


def test_an_audit_is_there_also_where_nothing_is_worth_asking() -> None:
    random = np.random.default_rng(0)
    candidates = make_candidates(100)
    found = choose(candidates, np.zeros(100), Budget(10, audit_ratio=0.2), Variety(), random)
    assert found.is_audit.tolist() == [True, True]
    assert found.probabilities.tolist() == pytest.approx([0.02, 0.02])


def test_centres_are_the_corners_before_what_lies_between() -> None:
    points = np.array([[0, 0], [0.1, 0], [10, 0], [10, 0.1], [5, 9]], np.float32)
    found = centres(points, 3, np.random.default_rng(0))
    assert {(round(x / 5), round(y / 9)) for x, y in found} == {(0, 0), (2, 0), (1, 1)}
    assert len(centres(points, 9, np.random.default_rng(0))) == 5
    assert len(set(nearest(points, found)[[0, 2, 4]].tolist())) == 3


def test_the_last_layer_is_what_softmax_was_given_but_for_a_constant() -> None:
    layer = np.array([[3.0, -1.0, 1.0], [0.0, 0.0, 0.0], [900.0, 0.0, 0.0]], np.float32)
    layer = layer - layer.max(axis=1, keepdims=True)
    scores = np.exp(layer) / np.exp(layer).sum(axis=1, keepdims=True)
    found = last_layer(scores.astype(np.float32))
    assert found[:2].tolist() == [pytest.approx([2, -2, 0], abs=1e-6), [0, 0, 0]]
    assert np.isfinite(found).all()


@pytest.mark.parametrize("part", ["inputs", "last layer"])
def test_rows_are_grouped_by_inputs_and_by_the_last_layer(part: str) -> None:
    """Three groups of rows, which differ in one of them only."""
    random = np.random.default_rng(0)
    of_row = np.arange(90) % 3
    sketches = np.zeros((90, 16), np.float32)
    scores = np.full((90, 3), 1 / 3, np.float32)
    if part == "inputs":
        sketches[:, 0] = 4 * of_row
    else:
        scores = np.where(np.eye(3)[of_row] > 0, 0.8, 0.1).astype(np.float32)
    sketches += random.normal(0, 0.01, sketches.shape).astype(np.float32)
    found = groups_of(sketches, scores, np.arange(90), 3, random)
    pairs = {*zip(of_row.tolist(), found.tolist(), strict=True)}
    assert len(pairs) == len({group for _, group in pairs}) == 3


def test_rows_in_a_cell_of_the_grid_are_the_same() -> None:
    points = np.array([[0, 0], [0.04, 0], [1, 0], [0, 0]], np.float32)
    first, near, far, equal = cells(points, 0.1).tolist()
    assert first == near == equal != far
    assert len({*cells(points, 0).tolist()}) == 3
