"""CSV files: quotes, headers, missing cells, and files that are not whole."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from components.data.csv_files import hint_at_header, read_csv, read_header
from components.data.raw_rows import BadRow
from contract.errors import DataError
from contract.schema.data import CsvSource


def source(**changes: object) -> CsvSource:
    return CsvSource(kind="csv", files=("x",), **changes)  # type: ignore[arg-type]


def read(path: Path, settings: CsvSource) -> tuple[list[dict[str, str | None]], list[BadRow]]:
    rows: list[dict[str, str | None]] = []
    bad: list[BadRow] = []
    for batch in read_csv(path, settings):
        rows += batch.columns.to_pylist()
        bad += batch.bad
    return rows, bad


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def test_cells_are_stripped_and_missing_ones_are_null(file: Path) -> None:
    file.write_text("a,b\n 1 , ?\n,x\n")
    rows, bad = read(file, source(missing=("", "?")))
    assert rows == [{"a": "1", "b": None}, {"a": None, "b": "x"}]
    assert bad == []


def test_quoted_cells_hold_delimiters_quotes_and_line_ends(file: Path) -> None:
    file.write_text('a,b\n"x, ""y""", "1\n2"\n')
    assert read(file, source())[0] == [{"a": 'x, "y"', "b": "1\n2"}]


def test_a_file_without_header_takes_the_names_of_the_config(file: Path) -> None:
    file.write_text("1;2\n")
    assert read(file, source(columns=("a", "b"), delimiter=";"))[0] == [{"a": "1", "b": "2"}]


def test_gzip_and_byte_order_mark_are_read(file: Path) -> None:
    file.write_bytes(gzip.compress(b"\xef\xbb\xbfa,b\n1,2\n"))
    assert read(file, source())[0] == [{"a": "1", "b": "2"}]


def test_rows_of_another_width_are_bad_and_keep_their_line(file: Path) -> None:
    file.write_text("a,b\n1,2\n\n1\n1,2,3\n3,4\n")
    rows, bad = read(file, source())
    assert [row["a"] for row in rows] == ["1", "3"]
    assert [(b.row, b.reason) for b in bad] == [
        (4, "row: 1 cells, expected 2"),
        (5, "row: 3 cells, expected 2"),
    ]
    assert bad[1].content == ["1", "2", "3"]


def test_bytes_that_are_not_utf8_make_a_bad_row(file: Path) -> None:
    file.write_bytes(b"a,b\n1,2\n\xff,3\n4,5\n")
    rows, bad = read(file, source())
    assert [row["a"] for row in rows] == ["1", "4"]
    assert [(b.row, b.reason) for b in bad] == [(3, "row: not UTF-8")]


def test_broken_quotes_make_a_bad_row(file: Path) -> None:
    file.write_text('a,b\n"1"x,2\n3,4\n')
    rows, bad = read(file, source())
    assert rows == [{"a": "3", "b": "4"}]
    assert bad[0].row == 2
    assert "broken quotes" in bad[0].reason


def test_a_quote_never_closed_is_an_error(file: Path) -> None:
    file.write_text('a,b\n1,2\n"3,4\n5,6\n')
    with pytest.raises(DataError, match="quote that opens at or after line 3 is never closed"):
        read(file, source())


def test_a_last_line_cut_short_is_an_error(file: Path) -> None:
    file.write_text("a,b\n1,2\n3")
    with pytest.raises(DataError, match="truncated: the last line, 3, has 1 of 2 cells"):
        read(file, source())


def test_a_truncated_gzip_file_is_an_error(file: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(10_000)))
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated or damaged gzip"):
        read(file, source())


@pytest.mark.parametrize("content", ["", "\n", "a,b\n"])
def test_a_file_without_rows_is_an_error(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(DataError, match="empty|no rows"):
        read(file, source())


def test_a_missing_file_is_an_error(file: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_header(file, source())


def test_a_file_that_is_json_is_an_error(file: Path) -> None:
    file.write_text('[{"a": 1, "b": "x"}]\n')
    with pytest.raises(DataError, match="line 1 is not CSV: .*expected rows below a header line"):
        read_header(file, source())


def test_a_header_that_repeats_a_name_is_an_error(file: Path) -> None:
    file.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match="column names repeat: a"):
        read_header(file, source())


# --- encodings and headers ----------------------------------------------------------------------


def test_a_row_with_bad_bytes_shows_what_another_encoding_reads(file: Path) -> None:
    file.write_bytes(b"a,b\nM\xfcnchen,3\n")
    _, (bad,) = read(file, source())
    assert bad.found == r"'M\xfcnchen' (cp1252 reads 'München'; see ingest.source.encoding)"
    assert bad.content == [r"M\xfcnchen", "3"]
    assert read(file, source(encoding="cp1252"))[0] == [{"a": "München", "b": "3"}]


def test_a_header_with_bad_bytes_is_an_error_that_names_the_key(file: Path) -> None:
    file.write_bytes(b"a,gr\xf6\xdfe\n1,2\n")
    with pytest.raises(
        DataError, match=r"line 1, the header, is not UTF-8: column 'gr\\xf6\\xdfe'"
    ):
        read_header(file, source())
    assert read_header(file, source(encoding="latin-1")) == ("a", "größe")


def test_utf16_and_zstd_are_read_together(file: Path) -> None:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write("a,b\nä,2\n".encode("utf-16"))
    file.write_bytes(sink.getvalue().to_pybytes())
    assert read(file, source())[0] == [{"a": "ä", "b": "2"}]


def test_columns_without_a_name_are_left_out(file: Path) -> None:
    file.write_text(",a,b,,\n0,1,2,,x\n")
    assert read_header(file, source()) == ("a", "b")
    assert read(file, source())[0] == [{"a": "1", "b": "2"}]


def test_the_line_that_tells_excel_the_delimiter_is_no_header(file: Path) -> None:
    file.write_text("sep=;\na;b\n1;2\n3\n")
    rows, bad = read(file, source(delimiter=";"))
    assert rows == [{"a": "1", "b": "2"}]
    assert [b.row for b in bad] == [4]
    with pytest.raises(DataError, match="line 1 says that the delimiter is ';', but .* with ','"):
        read_header(file, source())


def test_lines_before_the_header_are_left_out_and_counted(file: Path) -> None:
    file.write_text('# it\'s "exported"\n\na,b\n1,2\n3\n')
    rows, bad = read(file, source(skip_lines=2))
    assert rows == [{"a": "1", "b": "2"}]
    assert [b.row for b in bad] == [5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a;b\n1;2\n", 'Line 1 has these columns: set ingest.source.delimiter: ";"'),
        ("a\tb\n1\t2\n", r'set ingest.source.delimiter: "\t"'),
        ("# exported\na,b\n1,2\n", "Line 2 has these columns: set ingest.source.skip_lines: 1"),
        ("Title\n\na|b\n", 'delimiter: "|" and ingest.source.skip_lines: 2'),
        ("1.5,2\n3,4\n", "name its columns in ingest.source.columns"),
        ("c,d\n", "Line 1, read with the delimiter ',', is 'c,d'"),
        ('"a,b"\n', "is '\"a,b\"'"),
    ],
)
def test_missing_columns_are_explained_by_the_first_lines(
    file: Path, content: str, said: str
) -> None:
    file.write_text(content)
    assert said in hint_at_header(file, source(), ("a", "b"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,2,", "row: 3 cells, expected 2: the line ends in a delimiter, the header does not"),
        ("1;2", "row: 1 cells, expected 2, as there are with the delimiter ';'"),
    ],
)
def test_the_reason_of_a_row_of_another_width_tells_the_cause(
    file: Path, row: str, reason: str
) -> None:
    file.write_text(f"a,b\n{row}\n3,4\n")
    assert [b.reason for b in read(file, source())[1]] == [reason]


def test_no_lone_surrogate_leaves_the_reader(file: Path) -> None:
    file.write_bytes(b"a,b\n\xff,\xed\xa0\x80\n\xfe\n\xc3,1,2\n")
    rows, bad = read(file, source())
    assert rows == []
    assert [json.dumps(b.content, ensure_ascii=False).encode() for b in bad] == [
        rb'["\\xff", "\\xed\\xa0\\x80"]',
        rb'["\\xfe"]',
        rb'["\\xc3", "1", "2"]',
    ]
