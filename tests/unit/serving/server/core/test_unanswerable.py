"""Whose fault a failed call is, and where: found by calls of a model that is given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.server.core.unanswerable import Control, OutputShapeError, Search, control_of
from serving.server.engines.engine import NotFiniteError, RefusedInputError, shown

NAMES = ("a", "b", "c", "d", "e")


def columns(**changes: list[float]) -> dict[str, np.ndarray]:
    """Return rows of ones, `[rows]` by name, with some columns changed."""
    rows = len(next(iter(changes.values()))) if changes else 1
    return {n: np.array(changes.get(n, [1.0] * rows), np.float32) for n in NAMES}


class Model:
    """Fails, or answers no number, where a condition on a row's values holds; counts its calls."""

    def __init__(self, is_bad: Callable[..., Any], is_nan: bool = False) -> None:
        self.is_bad, self.is_nan, self.calls = is_bad, is_nan, 0

    def __call__(self, _signature: str, given: Any) -> dict[str, np.ndarray]:
        self.calls += 1
        bad = self.is_bad(**given)
        if bad.any() and not self.is_nan:
            raise RuntimeError(f"row {int(bad.argmax())} is bad\nat node 7")
        return {"value": np.where(bad, np.nan, sum(given.values()))}


def found(model: Model, rows: dict[str, np.ndarray], error: Exception) -> Exception:
    return Search(Control(model, columns())).explained("serving_default", rows, error)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_nan", [False, True])
def test_row_and_input_are_found(name: str, is_nan: bool) -> None:
    model = Model(lambda **given: given[name] == 7, is_nan)
    rows = columns(**{name: [1.0, 2.0, 3.0, 7.0, 7.0, 1.0]})
    error = NotFiniteError("value", 3) if is_nan else RuntimeError("row 3 is bad")
    explained = found(model, rows, error)
    assert isinstance(explained, RefusedInputError)
    assert (explained.row, explained.feature) == (3, name)
    if not is_nan:
        assert str(explained) == "row 0 is bad"  # as the row alone gets it, the first line of it
    assert model.calls <= 9


def test_of_two_inputs_that_only_fail_together_one_is_named() -> None:
    model = Model(lambda **given: (given["b"] == 7) & (given["d"] == 7))
    explained = found(model, columns(b=[7], d=[7]), RuntimeError("bad"))
    assert isinstance(explained, RefusedInputError)
    assert explained.feature == "d"


def test_a_model_that_fails_on_the_control_row_is_to_blame() -> None:
    error = RuntimeError("bad")
    assert found(Model(lambda **given: given["a"] > 0), columns(), error) is error


def test_without_a_control_row_a_failure_is_the_models() -> None:
    error = RuntimeError("bad")
    search = Search(Control(Model(lambda **given: given["a"] > 0), None))
    assert search.explained("serving_default", columns(), error) is error
    assert not search.is_model_broken()


def test_a_row_that_is_answered_alone_is_not_to_blame() -> None:
    error = RuntimeError("by chance")
    assert found(Model(lambda **given: given["a"] == 7), columns(), error) is error


def test_an_output_of_the_wrong_shape_is_the_models() -> None:
    error = OutputShapeError("output 'y'")
    assert found(Model(lambda **given: given["a"] == 7), columns(a=[7]), error) is error


def test_a_row_that_the_model_itself_refuses_needs_no_control() -> None:
    model = Model(lambda **given: given["a"] == 7)
    search = Search(Control(model, None))
    explained = search.explained(
        "serving_default", columns(a=[1, 7]), RefusedInputError("indices[1] = 7")
    )
    assert isinstance(explained, RefusedInputError)
    assert (explained.row, explained.feature) == (1, None)


def test_the_search_through_a_batch_has_an_end() -> None:
    model = Model(lambda **given: given["c"] == 7)
    search = Search(Control(model, columns()))
    answers = [
        search.explained("serving_default", columns(c=[7] * 8), RefusedInputError("c"))
        for _ in range(100)
    ]
    assert all(isinstance(answer, RefusedInputError) for answer in answers)
    assert answers[0].feature == "c"  # type: ignore[attr-defined]
    assert answers[-1].row is None  # type: ignore[attr-defined]
    assert model.calls <= 64 + 20  # and the control row, once for each that was searched


def test_the_input_is_found_inside_a_serialized_example() -> None:
    model = Model(lambda **given: given["c"] == 7)

    def parser(serialized: np.ndarray) -> dict[str, np.ndarray]:
        return columns(c=[float(text) for text in serialized])

    def call(signature: str, given: Any) -> dict[str, np.ndarray]:
        return model(signature, parser(given["examples"]) if "examples" in given else given)

    search = Search(Control(call, columns(), parser))
    texts = {"examples": np.array([b"1", b"7"], object)}
    explained = search.explained("serving_examples", texts, RefusedInputError("bad"))
    assert isinstance(explained, RefusedInputError)
    assert (explained.row, explained.feature) == (1, "c")


def test_the_control_is_the_first_row_that_the_model_answers() -> None:
    model = Model(lambda **given: given["a"] == 7)
    assert control_of(model, [columns(a=[7]), columns(a=[2])]).row == columns(a=[2])
    assert control_of(model, [columns(a=[7])]).row is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(1e32), "1e+32"),
        (np.int64(2**63 - 1), "9223372036854775807"),
        (b"purple \xc3\xbc", "'purple ü'"),
        (np.array([b"a", b""], object), "['a', '']"),
        (np.array([], object), "[]"),
        (b"x" * 200, "'" + "x" * 59 + "..."),
    ],
)
def test_values_are_shown_as_callers_know_them(value: Any, text: str) -> None:
    assert shown(value) == text
