"""One line of what a step says: whole parts, and no more than fits."""

from cli.progress import MOST_CHARACTERS, shortened


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
