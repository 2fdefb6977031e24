"""Times of every spelling as microseconds, and what is none."""

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.times import read_times
from contract.schema.split import TimeUnit, microseconds


def read(*texts: str, unit: TimeUnit = "s") -> list[int | None]:
    found: list[int | None] = read_times(
        pa.array([text.encode() for text in texts], pa.binary()), unit
    ).to_pylist()
    return found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970-01-01 00:01", 60),
        ("1970-01-01T00:00:01.5", 1.5),
        ("1970-01-01 02:00:00+02:00", 0),
        ("1970-01-01 02:00:00 +0200", 0),
        ("1969-12-31T23:00:00-01", 0),
        ("1970-01-01T00:00:07Z", 7),
        ("1970-01-01 00:00:07 UTC", 7),
        (" 1970-01-01 ", 0),
        ("1970-01-01T00:00:00.1234569", 0.123456),
        ("12", 12),
        ("-1", -1),
        ("1.25", 1.25),
        ("1.7e9", 1.7e9),
    ],
)
def test_a_time_is_microseconds_in_utc(text: str, seconds: float) -> None:
    assert read(text) == [round(seconds * 1e6)]


@pytest.mark.parametrize("text", ["", "yesterday", "nan", "inf", "1e300", "1700000000000", "\x00"])
def test_what_is_no_time_spoils_no_other(text: str) -> None:
    assert read("1970-01-01", text, "1970-01-02") == [0, None, 86_400 * 10**6]


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-30",
        "2023-13-01",
        "01/31/2023",
        "2023-01-01T25:00",
        "2023-1-1",
        "2023-01-01+01:00",
        "٢٠٢٣-٠١-٠١",
    ],
)
def test_a_day_that_the_calendar_lacks_is_no_time(text: str) -> None:
    assert read("1970-01-01", text) == [0, None]


def test_numbers_count_the_unit() -> None:
    assert read("1700000000123", unit="ms") == [1_700_000_000_123_000]
    assert read("1700000000123456", unit="us") == [1_700_000_000_123_456]
    assert read("1700000000123456789", unit="ns") == [1_700_000_000_123_456]
    assert read("1970-01-01T00:00:01", unit="ns") == [10**6]


@settings(max_examples=50)
@given(
    moment=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    minutes=st.none() | st.integers(-14 * 60, 14 * 60),
)
def test_columns_and_cut_points_mean_the_same(moment: datetime, minutes: int | None) -> None:
    if minutes is not None:
        moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = moment.isoformat()
    exact = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    expected = (exact - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert read(text) == [microseconds(text)] == [expected]
