"""Names of columns: all there, each once, and the nearest where one is not."""

from pathlib import Path

import pytest

from components.data.column_names import check_columns, check_repeats
from contract.errors import DataError

FILE = Path("x.csv")


def test_missing_columns_are_named_with_the_nearest_that_is_there() -> None:
    with pytest.raises(DataError, match=r"missing columns: 'age'; did you mean 'agee'\?") as caught:
        check_columns(FILE, ("agee", "job", "town"), ("age", "job"))
    assert "columns that the config does not name: agee, town" in str(caught.value)
    check_columns(FILE, ("job", "town", "age"), ("age", "job"))


@pytest.mark.parametrize(
    ("wanted", "there"),
    [("x", "X"), ("sepal_length", "Sepal Length"), ("straße", "STRASSE"), ("größe", "gro\u0308ße")],
)
def test_a_name_that_differs_in_case_or_spaces_is_the_nearest(wanted: str, there: str) -> None:
    with pytest.raises(DataError, match=f"'{wanted}'; did you mean "):
        check_columns(FILE, ("other", there), (wanted,))


def test_names_that_look_the_same_are_told_by_their_codes() -> None:
    with pytest.raises(DataError, match=r"did you mean '\\u200bage', which looks the same\?"):
        check_columns(FILE, ("\u200bage",), ("age",))


def test_repeated_names_are_refused_with_their_places_and_unnamed_ones_are_not() -> None:
    with pytest.raises(DataError, match=r"column names repeat: a \(columns 1, 3\)"):
        check_repeats(FILE, ("a", "b", "a"))
    check_repeats(FILE, ("a", "", "A", ""))
