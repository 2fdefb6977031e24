"""Where the KL calibration cuts a histogram off."""

import numpy as np
import pytest

from components.optimize.judging.calibration import BINS, kl_threshold
from components.optimize.passes.round_weights import round_to_steps
from components.optimize.passes.sort_by_execution_order import peak_bytes


def test_a_flat_histogram_is_kept_whole() -> None:
    assert kl_threshold(np.full(BINS, 10), 127) == BINS


def test_a_far_outlier_is_cut_off_but_not_the_bulk() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[:400] = 100_000 * np.exp(-0.5 * np.square(np.arange(400) / 100))  # four deviations
    counts[-1] = 1
    assert 200 <= kl_threshold(counts, 127) <= 600


def test_nothing_seen_cuts_nothing() -> None:
    assert kl_threshold(np.zeros(BINS, np.int64), 127) == BINS


def test_rounded_values_lie_evenly_between_least_and_largest() -> None:
    values = np.array([-1.0, -0.6, 0.4, 1.0], np.float32)
    assert round_to_steps(values, 3).tolist() == [-1.0, -1.0, 0.0, 1.0]
    assert round_to_steps(np.full(3, 0.3, np.float32), 3).tolist() == pytest.approx([0.3] * 3)


def test_peak_bytes_counts_what_is_alive_at_a_time() -> None:
    inputs = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b"}, "e": {"c"}, "f": {"d", "e"}}
    sizes = {"a": 1, "b": 10, "c": 10, "d": 1, "e": 1, "f": 1}
    # both wide ones at once: a + b + c; one after the other: a + b + d, then d + c + e
    assert peak_bytes(["a", "b", "c", "d", "e", "f"], inputs, sizes) == 21
    assert peak_bytes(["a", "b", "d", "c", "e", "f"], inputs, sizes) == 12
