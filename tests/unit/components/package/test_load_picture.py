"""The picture of a load test shows what was measured, and says what was not."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import Rectangle

from components.package.load_picture import draw, write_picture
from contract.errors import DiskFullError
from contract.records.package import LoadReport

PERCENTILES = {"50": 2.0, "90": 3.0, "99": 8.0, "99.9": 20.0, "100": 40.0}
SPANS = {"transform_request": 0.25, "queue": 0.5, "predict": 1.0, "transform_response": 0.25}
DEVICE_WITHOUT_SPACE = Path("/dev/full")


def report(**changes: Any) -> LoadReport:
    seen = {
        "requests": 2000, "errors": 0, "seconds": 10.0, "requests_per_second": 200.0,
        "p50_ms": 2.0, "p95_ms": 5.0, "p99_ms": 8.0,
        "percentiles_ms": PERCENTILES, "spans_ms": SPANS,
    }  # fmt: skip
    return LoadReport(**{**seen, **changes})


def test_percentiles_are_as_far_apart_as_they_have_more_nines() -> None:
    figure = draw(report(), "digits, version 3")
    line = figure.axes[0].lines[0]
    assert line.get_ydata() == pytest.approx([2.0, 3.0, 8.0, 20.0, 40.0])
    # 50 %: log10(2); the slowest of 2,000 is drawn at half a request: log10(4,000)
    assert line.get_xdata() == pytest.approx([0.30103, 1.0, 2.0, 3.0, 3.60206])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["50", "90", "99", "99.9", "slowest"]


def test_each_span_has_its_time_and_its_share() -> None:
    axes = draw(report(), "digits").axes[1]
    assert [bar.get_bbox().width for bar in axes.patches if isinstance(bar, Rectangle)] == [
        0.25,
        0.5,
        1.0,
        0.25,
    ]
    words = ["0.25 ms, 12%", "0.5 ms, 25%", "1 ms, 50%", "0.25 ms, 12%"]
    assert [text.get_text() for text in axes.texts] == words


def test_what_was_not_counted_is_said() -> None:
    figure = draw(report(spans_ms={}, percentiles_ms={}, requests=0), "digits")
    assert [text.get_text() for text in figure.axes[1].texts] == ["no spans were counted"]


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    write_picture(report(errors=1), tmp_path / "loadtest.png", "$a$ and $b")
    assert (tmp_path / "loadtest.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not DEVICE_WITHOUT_SPACE.exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    (path := tmp_path / "loadtest.png").symlink_to(DEVICE_WITHOUT_SPACE)
    with pytest.raises(DiskFullError, match="disk full"):
        write_picture(report(), path, "digits")
