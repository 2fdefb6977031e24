"""What an answer depends on beside its row: models of a few lines, whose arithmetic is known."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from components.quality.row_dependence import Cause, Dependence, in_words
from components.quality.row_independence import (
    Limits,
    Subject,
    find_dependence,
    row_tolerance,
    telling_rows,
)
from contract.schema.pipeline import PipelineConfig

Row = Mapping[str, Any]
ROWS: list[Row] = [
    {"x": 1.0, "words": [2, 4], "tags": [1], "city": "Ulm"},
    {"x": 3.0, "words": [6, 2, 4, 4], "tags": [3, 5], "city": "Rome"},
    {"x": 2.0, "words": [8], "tags": [2, 2, 2], "city": "Reykjavik"},
]
LISTS = frozenset({"words", "tags"})


def padded(rows: Sequence[Row], name: str) -> np.ndarray:
    width = max(len(row[name]) for row in rows)
    return np.array([[*row[name], *[0] * (width - len(row[name]))] for row in rows], float)


def column(rows: Sequence[Row], name: str = "x") -> np.ndarray:
    return np.array([row[name] for row in rows], float)


def found(
    answer: Callable[[Sequence[Row]], Any], rows: Sequence[Row] = ROWS, **limits: Any
) -> Dependence | None:
    subject = Subject(lambda batch: {"y": np.asarray(answer(batch))}, LISTS)
    return find_dependence(subject, rows, Limits(**limits))


def mean_of(name: str) -> Callable[[Sequence[Row]], np.ndarray]:
    return lambda rows: padded(rows, name).mean(axis=1)


def masked_mean(rows: Sequence[Row]) -> np.ndarray:
    words = padded(rows, "words")
    return words.sum(axis=1) / (words != 0).sum(axis=1)


# --- what depends on more than the row ----------------------------------------------------------


def test_a_mean_over_padding_is_named_by_its_feature_and_size() -> None:
    # Alone 8; beside a row of four words 8 / 4. Together the means are 1.5, 4 and 2: their median
    # is 2, the row's own answer alone 8, so the difference is (8 - 2) / 8.
    dependence = found(mean_of("words"))
    assert dependence == Dependence(Cause.PADDING, "y", pytest.approx(0.75), "words")  # type: ignore[arg-type]
    assert in_words(dependence, "head 'price'").startswith(
        "the answer of head 'price' to a row changes by 0.75 with the padding of 'words', that is "
        "with longer rows beside it: mask it, as with Embedding(..., mask_zero=True)"
    )


def test_of_two_list_features_the_one_that_is_not_masked_is_named() -> None:
    dependence = found(lambda rows: masked_mean(rows) + mean_of("tags")(rows))
    assert dependence is not None
    assert (dependence.cause, dependence.feature) == (Cause.PADDING, "tags")


def test_padding_is_found_where_all_rows_are_equally_long() -> None:
    rows = [{**row, "words": [1, 2, 3, 6], "tags": [1]} for row in ROWS]
    dependence = found(mean_of("words"), rows)
    assert dependence is not None
    assert (dependence.cause, dependence.feature) == (Cause.PADDING, "words")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (lambda rows: column(rows) - column(rows).mean(), Cause.NEIGHBOURS),
        (lambda rows: np.exp(column(rows)) / np.exp(column(rows)).sum(), Cause.NEIGHBOURS),
        (lambda rows: column(rows).argsort().argsort().astype(float), Cause.NEIGHBOURS),
        (lambda rows: np.sort(column(rows)), Cause.ORDER),
        (lambda rows: np.cumsum(column(rows)), Cause.ORDER),
        (lambda rows: column(rows) + np.arange(len(rows)), Cause.ORDER),
        (lambda rows: column(rows) * len(rows), Cause.NEIGHBOURS),
    ],
    ids=["centred", "softmax", "rank", "sort", "cumsum", "place", "size"],
)
def test_what_is_computed_over_the_batch_is_told_from_padding(
    answer: Callable[[Sequence[Row]], Any], cause: Cause
) -> None:
    dependence = found(answer)
    assert dependence is not None
    assert dependence.cause is cause
    assert "something is computed over the batch" in in_words(dependence)


def test_statistics_of_lists_over_the_batch_are_no_padding() -> None:
    dependence = found(lambda rows: masked_mean(rows) - masked_mean(rows).mean())
    assert dependence is not None
    assert dependence.cause is Cause.NEIGHBOURS


MANY: list[Row] = [
    {"x": 1.0 + n % 7, "words": [1 + n % 5] * (1 + n % 4), "tags": [1], "city": "Ulm"}
    for n in range(40)
]


def remembering() -> Callable[[Sequence[Row]], np.ndarray]:
    """Return a model that adds a tenth of the first number of the call before."""
    before = [0.0]

    def answer(rows: Sequence[Row]) -> np.ndarray:
        found = column(rows) + 0.1 * before[0]
        before[0] = column(rows)[0]
        return found

    return answer


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (lambda rows: np.sort(column(rows)), Cause.ORDER),
        (lambda rows: np.argsort(np.argsort(column(rows))).astype(float), Cause.NEIGHBOURS),
        (lambda rows: column(rows) + 0.1 * np.roll(column(rows), 1), Cause.ORDER),
        (lambda rows: column(rows) + 0.5 * (np.arange(len(rows)) == len(rows) - 1), Cause.ORDER),
        (lambda rows: column(rows).sum() - column(rows), Cause.NEIGHBOURS),
        (lambda rows: column(rows) + 0.5 * (column(rows) == column(rows).max()), Cause.NEIGHBOURS),
        (lambda rows: column(rows) * (1.01 if len(rows) > 16 else 1.0), Cause.NEIGHBOURS),
        (lambda rows: column(rows) + 0.01 * padded(rows, "words").shape[1], Cause.PADDING),
        (remembering(), Cause.CALLS),
    ],
)
def test_whatever_an_answer_takes_from_its_batch_is_found(
    answer: Callable[[Sequence[Row]], np.ndarray], cause: Cause
) -> None:
    """Sorted, ranked, shifted, the last row, the rest, the largest, many rows, widths, memory."""
    dependence = found(answer, MANY)
    assert dependence is not None
    assert dependence.cause is cause


def test_a_random_answer_is_found_before_anything_else() -> None:
    random = np.random.default_rng(3)
    dependence = found(lambda rows: mean_of("words")(rows) + random.normal(size=len(rows)))
    assert dependence is not None
    assert dependence.cause is Cause.CALLS
    assert in_words(dependence).startswith("two calls on the same rows differ: the answer of")


def test_a_counter_is_found_as_a_difference_between_calls() -> None:
    calls: list[int] = []

    def answer(rows: Sequence[Row]) -> np.ndarray:
        calls.append(1)
        return column(rows) + len(calls)

    assert found(answer).cause is Cause.CALLS  # type: ignore[union-attr]


def test_text_that_the_model_splits_is_named() -> None:
    def answer(rows: Sequence[Row]) -> np.ndarray:  # letters over the longest of the batch
        return column(rows) + [len(row["city"]) / max(len(r["city"]) for r in rows) for row in rows]

    dependence = found(answer)
    assert dependence is not None
    assert (dependence.cause, dependence.feature) == (Cause.FEATURE, "city")
    assert "with 'city' of the rows beside it: if its values are split" in in_words(dependence)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda rows: np.squeeze(np.stack([column(rows)] * 2, 1)), r"shape \[2\] for 1 row"),
        (lambda rows: column(rows).mean(), r"shape \[\] for 3 row"),
        (lambda rows: column(rows) / (0 if len(rows) == 1 else 1), ""),
    ],
    ids=["squeeze", "reduced", "infinite"],
)
def test_a_row_alone_must_be_answered_like_rows(
    answer: Callable[[Sequence[Row]], Any], message: str
) -> None:
    with np.errstate(divide="ignore"):
        dependence = found(answer)
    assert dependence is not None
    if message:
        assert dependence.cause is Cause.BATCH_SIZE
        assert re.search(message, in_words(dependence))


def test_an_error_for_one_row_alone_is_said_in_its_words() -> None:
    def answer(rows: Sequence[Row]) -> np.ndarray:
        if len(rows) == 1:
            raise ValueError("Cannot squeeze axis 0")
        return column(rows)

    words = in_words(found(answer))  # type: ignore[arg-type]
    assert words.startswith("rows are answered together, but one alone fails: Cannot squeeze axis")


def test_an_error_for_rows_together_is_the_models_own() -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        found(lambda rows: len(rows) / 0)


def test_nan_for_some_rows_beside_others_only_is_found() -> None:
    def answer(rows: Sequence[Row]) -> np.ndarray:
        return np.where(padded(rows, "words")[:, -1] == 0, np.nan, column(rows))

    dependence = found(answer)
    assert dependence is not None
    assert (dependence.feature, dependence.difference) == ("words", np.inf)


# --- what depends on the row alone --------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        masked_mean,
        lambda rows: padded(rows, "words").max(axis=1),  # of numbers above 0
        lambda rows: padded(rows, "words").sum(axis=1),
        lambda rows: (padded(rows, "words") != 0).sum(axis=1).astype(float),
        lambda rows: padded(rows, "tags")[:, 0] * column(rows),
        lambda rows: np.full(len(rows), 0.5),
        lambda rows: np.full(len(rows), np.nan),
        lambda rows: np.array([row["city"] for row in rows], object),
        lambda rows: np.zeros((len(rows), 0)),
    ],
    ids=["masked", "max", "sum", "length", "first", "constant", "nan", "text", "empty"],
)
def test_answers_of_the_row_alone_pass(answer: Callable[[Sequence[Row]], Any]) -> None:
    assert found(answer) is None


@pytest.mark.parametrize("rows", [ROWS[:1], [{**ROWS[0], "words": [], "tags": []}] * 3])
def test_one_row_and_rows_of_empty_lists_pass(rows: list[Row]) -> None:
    assert found(column, rows) is None


def test_a_model_for_lists_of_one_length_is_not_tried_with_others() -> None:
    def answer(rows: Sequence[Row]) -> np.ndarray:
        return padded(rows, "words").reshape(-1, 4) @ np.arange(4.0)

    assert found(answer, [{**row, "words": [1, 2, 3, 6], "tags": [1]} for row in ROWS]) is None


def test_no_list_is_longer_than_those_there_are() -> None:
    def answer(rows: Sequence[Row]) -> np.ndarray:
        places = np.array([0.0, 0.1, 0.2, 0.3])  # a table of four positions
        words = padded(rows, "words")
        return ((words + places[np.arange(words.shape[1])]) * (words != 0)).sum(axis=1)

    assert found(answer) is None


def test_a_difference_as_large_as_the_tolerance_passes_and_one_above_it_does_not() -> None:
    def off_by(size: float) -> Callable[[Sequence[Row]], np.ndarray]:
        return lambda rows: np.ones(len(rows)) + size * (len(rows) == 1)

    assert found(off_by(0.9e-4)) is None
    assert found(off_by(1.1e-4)) is not None
    assert found(off_by(0.9e-3), tolerance=1e-3) is None


@pytest.mark.parametrize(
    ("precision", "skew_tolerance", "expected"),
    [
        ("float32", 1e-5, 1e-4),
        ("float32", 1e-3, 1e-3),
        ("mixed_bfloat16", 1e-5, 2e-2),
        ("mixed_float16", 0.1, 0.1),
    ],
)
def test_served_models_may_differ_by_their_precision_and_skew(
    precision: str, skew_tolerance: float, expected: float
) -> None:
    config = PipelineConfig.model_validate_json(
        '{"name": "tiny", "features": {"x": {"dtype": "float32"}}, '
        '"heads": {"y": {"task": "regression"}}, '
        '"ingest": {"source": {"kind": "csv", "files": ["rows.csv"]}}, '
        f'"train": {{"precision": "{precision}"}}, '
        f'"package": {{"skew_tolerance": {skew_tolerance}}}}}'
    )
    assert row_tolerance(config) == expected


def test_rounding_of_a_sum_that_cancels_is_no_dependence() -> None:
    def answer(rows: Sequence[Row]) -> np.ndarray:
        x, z = column(rows).astype(np.float32), column(rows, "z").astype(np.float32)
        lost = np.float32(2e-3) if len(rows) == 1 else np.float32(0)
        return x * np.float32(3e4) + lost - z * np.float32(3e4)

    rows = [{**row, "z": row["x"] - 1 / 3e4} for row in ROWS]  # each answer is about 1
    assert found(answer, rows) is None
    # of such a size for no reason it is one
    assert found(lambda rows: np.ones(len(rows)) + 2e-3 * (len(rows) == 1), rows) is not None


def test_rounding_of_weights_is_told_from_a_dependence_where_no_feature_is_a_float() -> None:
    weight = [1.0]

    def answer(rows: Sequence[Row]) -> dict[str, np.ndarray]:
        lost = 2e-3 * (len(rows) == 1)
        return {"y": np.array([3e4 * weight[0] - 3e4 + 1 + lost for _ in rows])}

    @contextmanager
    def shaken() -> Iterator[None]:
        weight[0] += 2.0**-22
        yield
        weight[0] -= 2.0**-22

    rows: list[Row] = [{"word": "a"}, {"word": "b"}]
    assert find_dependence(Subject(answer), rows) is not None
    assert find_dependence(Subject(answer, rounded_otherwise=shaken), rows) is None
    assert weight == [1.0]


# --- rows and time ------------------------------------------------------------------------------


def test_the_shortest_and_longest_rows_are_among_the_few() -> None:
    lengths = {"a": [3] * 50 + [9] + [3] * 49, "b": [2] * 99 + [0]}
    chosen = telling_rows(lengths, 100, most=8)
    assert len(chosen) == 8
    assert {50, 99, 0, 1} <= set(chosen)
    assert telling_rows({}, 3) == [0, 1, 2]


def test_of_a_slow_model_four_rows_are_asked_for_alone_the_shortest_and_longest_first() -> None:
    now, alone = [0.0], list[Row]()

    def answer(rows: Sequence[Row]) -> np.ndarray:
        now[0] += 10.0
        alone.extend(rows if len(rows) == 1 else [])
        return column(rows)

    rows = [{"x": 0.0, "words": [1] * length, "tags": []} for length in range(1, 11)]
    assert found(answer, rows, clock=lambda: now[0], seconds=1.0) is None
    assert [len(row["words"]) for row in alone] == [1, 10, 2, 9]


def test_on_a_busy_machine_padding_is_found_though_many_rows_are_shortest_and_longest() -> None:
    """Beside the longest row these are not padded, or have nothing that padding could change."""
    now = [0.0]

    def share_of_the_width(rows: Sequence[Row]) -> np.ndarray:
        now[0] += 10.0
        width = max(1, *(len(row["words"]) for row in rows))
        return np.array([len(row["words"]) / width for row in rows])

    rows = [{"x": 0.0, "words": [1] * (n % 5), "tags": []} for n in range(40)]
    dependence = found(share_of_the_width, rows, clock=lambda: now[0], seconds=1.0)
    assert dependence is not None
    assert (dependence.cause, dependence.feature) == (Cause.PADDING, "words")
