"""Numbers come back as they went in, from memory and from a file."""

from pathlib import Path

import numpy as np
import pytest

from components.validate.held_numbers import HeldNumbers


@pytest.mark.parametrize("in_memory_bytes", [1 << 20, 16])
def test_numbers_come_back_by_column_in_their_order(tmp_path: Path, in_memory_bytes: int) -> None:
    floats, more = np.array([1.5, np.nan], np.float32), np.array([-2.5], np.float32)
    integers = np.array([2**62 + 1, -3, 0])
    with HeldNumbers(tmp_path, in_memory_bytes) as held:
        held.add("a", floats)
        held.add("b", integers)
        assert [part.tobytes() for part in held.of("a")] == [floats.tobytes()]
        held.add("a", more[::-1])
        assert [part.tobytes() for part in held.of("a")] == [floats.tobytes(), more.tobytes()]
        assert [part.tolist() for part in held.of("b")] == [integers.tolist()]
        assert list(held.of("c")) == []


def test_what_is_held_in_a_file_has_no_name_that_could_be_left_behind(tmp_path: Path) -> None:
    with HeldNumbers(tmp_path, in_memory_bytes=16) as held:
        held.add("a", np.arange(100))
        assert list(tmp_path.iterdir()) == []
        assert np.concatenate([*held.of("a")]).tolist() == list(range(100))
