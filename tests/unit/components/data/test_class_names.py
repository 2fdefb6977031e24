"""Which labels name which class."""

import pytest

from components.data.class_names import ClassNames


@pytest.mark.parametrize(
    "classes", [("0", "1"), ("False", "True"), ("false", "true"), ("0", "1.0")]
)
@pytest.mark.parametrize("label", ["1", "1.0", "1.00", "+1", "1e0", "True", "true", "TRUE", " 1 "])
def test_one_and_true_in_every_spelling_are_the_same_class(
    classes: tuple[str, str], label: str
) -> None:
    assert ClassNames(classes).index(label) == 1


@pytest.mark.parametrize("label", ["0", "0.0", "-0", "False", "false", "0e5"])
def test_zero_and_false_in_every_spelling_are_the_same_class(label: str) -> None:
    assert ClassNames(("0", "1")).index(label) == 0
    assert ClassNames(("False", "True")).index(label) == 0


def test_numbers_match_by_value_and_truth_values_do_not_match_them_among_many() -> None:
    names = ClassNames(("1", "2.50", "300"))
    labels = ["1.0", "2.5", "3e2", "True", "2"]
    assert [names.index(label) for label in labels] == [0, 1, 2, None, None]


def test_zeros_in_front_are_not_the_number() -> None:
    assert ClassNames(("1", "2")).index("01") is None
    assert [ClassNames(("01", "1")).index(label) for label in ("01", "1", "1.0")] == [0, 1, 1]


def test_classes_of_equal_value_are_named_by_their_own_text_only() -> None:
    names = ClassNames(("1", "1.0", "yes"))
    assert [names.index(label) for label in ("1", "1.0", "1.00", "yes")] == [0, 1, None, 2]


def test_other_text_matches_as_it_is() -> None:
    names = ClassNames(("no", "yes"))
    assert [names.index(label) for label in ("yes", "Yes", "True", "1", "")] == [
        1,
        None,
        None,
        None,
        None,
    ]


def test_characters_around_a_label_are_removed() -> None:
    assert ClassNames(("<=50K", ">50K"), strip=".").index(" >50K. ") == 1


@pytest.mark.parametrize("label", ["1" * 5000, "1e999999999", "1e-999999999", "." * 100])
def test_an_absurd_label_names_nothing(label: str) -> None:
    assert ClassNames(("0", "1")).index(label) is None


def test_a_label_map_names_classes_that_labels_do_not() -> None:
    names = ClassNames(["0", "1"], label_map={"yes": "1", "no": "0", "n/a": "0"})
    labels = ["yes", " no ", "n/a", "1", "0.0", "maybe", "Yes"]
    assert [names.index(label) for label in labels] == [1, 0, 0, 1, 0, None, None]
    assert ClassNames(["0", "1"], label_map={"true": "1"}).index("TRUE") == 1
    numbers = ClassNames(["low", "high"], label_map={"1": "low", "2": "low", "3": "high"})
    assert [numbers.index(label) for label in ("1.0", "2", "3e0", "high", "4")] == [
        0,
        0,
        1,
        1,
        None,
    ]


def test_numbers_of_a_map_that_mean_two_classes_are_taken_as_written() -> None:
    names = ClassNames(["a", "b"], label_map={"1": "a", "1.0": "b"})
    assert [names.index(label) for label in ("1", "1.0", "1.00")] == [0, 1, None]
