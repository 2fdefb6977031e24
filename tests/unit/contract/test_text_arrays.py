"""Arrays of text through a file that is read without pickle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.text_arrays import restored, storable


def through_a_file(array: Any, folder: Path) -> Any:
    np.savez(folder / "rows.npz", allow_pickle=False, column=storable(array))
    with np.load(folder / "rows.npz", allow_pickle=False) as stored:
        return restored(stored["column"])


@pytest.mark.parametrize("texts", [[b"a", b"", b"a\0", b"\0\0", b".", b"a.", "ä".encode()], []])
def test_text_is_what_it_was_down_to_its_zero_bytes(texts: list[bytes], tmp_path: Path) -> None:
    found = through_a_file(np.array(texts, object), tmp_path)
    assert found.tolist() == texts
    assert found.dtype == object


def test_shapes_and_texts_that_are_no_bytes_are_kept(tmp_path: Path) -> None:
    given = np.array([["ä", "b"], ["", "d"]], object)
    expected = [["ä".encode(), b"b"], [b"", b"d"]]
    assert through_a_file(given, tmp_path).tolist() == expected
    assert through_a_file(given.astype("U"), tmp_path).tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_numbers_are_left_alone(dtype: str, tmp_path: Path) -> None:
    given = np.arange(6).reshape(2, 3).astype(dtype)
    found = through_a_file(given, tmp_path)
    assert found.dtype == given.dtype
    assert (found == given).all()


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="expected text, found list"):
        storable(np.array([[1], [2, 3]], object))
