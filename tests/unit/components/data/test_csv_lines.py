"""Lines that Arrow reads: the same rows and bad rows as the exact reader finds, or none."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.data import csv_files, csv_lines
from components.data.csv_lines import CsvLines, can_be_plain, plain_columns
from contract.errors import DataError
from contract.schema.data import CsvSource

CELLS = ["1", "-2.5", "", " 7", "x ", "é", "\u2003wide", "?", "1e400", "0x10", '"q"', '"a,b"']
ODD = ['"two\nlines"', 'in"side', '"bad" end', "\x00", "\x85", "\ufeff", "\udcff", "\x1c", "a\tb"]
ENDS = ["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n \n"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "BATCH_ROWS", 3)
    monkeypatch.setattr(csv_lines, "_BLOCK_BYTES", 5)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Return a file that is mostly plain: some rows have odd cells, or too many or too few."""
    cells = st.sampled_from(CELLS[:8]) if draw(st.booleans()) else st.sampled_from(CELLS + ODD)
    end = st.just(draw(st.sampled_from(ENDS))) if draw(st.booleans()) else st.sampled_from(ENDS)
    lines = draw(st.lists(st.lists(cells, min_size=2, max_size=3), max_size=14))
    rows = [",".join(line if draw(st.integers(0, 7)) == 0 else line[:2]) for line in lines]
    text = "".join(row + draw(end) for row in rows)
    text = (
        draw(st.sampled_from(["", "", "\ufeff"]))
        + "a,b\n"
        + text
        + draw(st.sampled_from(["", "3", "3,4"]))
    )
    return text.encode("utf-8", "surrogateescape")


def outcome(path: Path, settings: CsvSource, is_exact: bool) -> tuple[list[Any], str]:
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        if is_exact:
            patch.setattr(csv_files, "can_be_plain", lambda *_: False)
        try:
            for batch in csv_files.read_csv(path, settings):
                found.append((batch.rows.tolist(), batch.columns.to_pydict(), batch.bad))
        except DataError as error:
            return found, str(error)
    return found, ""


@given(files(), st.booleans(), st.sampled_from([("",), ("", "?")]), st.booleans())
@example(b"a,b\n1,2\n3,4\n5,6\n7", True, ("",), False)
@example(b"a,b\n1,2\n3,4\n\xef\xbb\xbf5,6\n7,8\n", True, ("",), False)
@example(b'a,b\n1,2\n3,4\n5,6\n"7\n8",9\n1,2\n3,4\n5,6\n1,2\n', True, ("",), False)
@settings(max_examples=25, deadline=None)
def test_a_file_is_read_as_by_the_exact_reader(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    is_stripped: bool,
    missing: tuple[str, ...],
    is_headless: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_bytes(content)
    names = ("a", "b") if is_headless else None
    source = CsvSource(
        kind="csv", files=("x",), is_stripped=is_stripped, missing=missing, columns=names
    )
    assert outcome(path, source, is_exact=False) == outcome(path, source, is_exact=True)


def test_plain_lines_are_columns_of_text() -> None:
    columns = plain_columns("1, é\r\n0x10,\r\n".encode(), 2, ",")
    assert columns is not None
    assert [column.to_pylist() for column in columns] == [["1", "0x10"], [" é", ""]]


@pytest.mark.parametrize(
    "block",
    [b"", b'"1",2\n', b"1\n", b"1,2\n\n3,4\n", b"1,2\r3,4\n", b"1,\0\n", b"1,\xff\n"],
    ids=["nothing", "quotes", "too few", "empty line", "mixed ends", "NUL", "not UTF-8"],
)
def test_other_lines_are_left_to_the_exact_reader(block: bytes) -> None:
    assert plain_columns(block, 2, ",") is None


@pytest.mark.parametrize(("width", "delimiter"), [(1, ","), (2, " "), (2, "é"), (2, '"')])
def test_some_files_have_no_plain_lines(width: int, delimiter: str) -> None:
    assert not can_be_plain(width, delimiter)


def test_lines_end_as_in_a_text_file() -> None:
    content = b"1\r\n2\r3\n\n4\r"
    lines = CsvLines(io.BytesIO(content))
    expected = list(io.TextIOWrapper(io.BytesIO(content), newline=""))
    assert [line.decode() for line in lines] == expected
    assert lines.lines_read == 5
    assert lines.at_end
