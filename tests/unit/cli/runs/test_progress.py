"""One line of what a step says: whole parts, and no more than fits."""

import pytest

from cli.runs.progress import MOST_CHARACTERS, number, shortened


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10860.0, "10,860"),
        (10860.4, "10,860"),
        (2169.0, "2,169"),
        (3.0, "3"),
        (0.0, "0"),
        (0.91234, "0.9123"),
        (-1234.5, "-1,234"),
        (0.00001234, "1.234e-05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_one_form(value: float, words: str) -> None:
    assert number(value) == words


def test_parts_that_fit_are_all_there() -> None:
    assert shortened(["one", "two 2"]) == "one; two 2"
    assert shortened([]) == ""


def test_a_part_that_does_not_fit_is_left_out_whole_and_marked() -> None:
    first = "a" * (MOST_CHARACTERS - 10)
    assert shortened([first, "0.0466 and more"]) == f"{first}; …"


def test_a_first_part_that_is_too_long_alone_is_cut_between_words() -> None:
    said = shortened(["word " * 100])
    assert said.endswith("word …")
    assert len(said) <= MOST_CHARACTERS + 2
