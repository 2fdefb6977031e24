"""Files as text: encodings, byte-order marks, packed files, and files that are something else."""

import bz2
import gzip
import lzma
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from components.data.text_files import encoding_hint, has_bad_bytes, open_bytes, open_text, shown
from contract.errors import DataError

TEXT = "größe,ort\r\n1,Köln\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


def read(path: Path, encoding: str = "utf-8") -> str:
    with open_text(path, encoding) as file:
        return file.read()


def packed(codec: str, data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as out:
        out.write(data)
    return bytes(sink.getvalue().to_pybytes())


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: packed("zstd", data),
    "lz4": lambda data: packed("lz4", data),
}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding_whatever_the_config_says(
    file: Path, encoding: str
) -> None:
    file.write_bytes(TEXT.encode(encoding))
    assert read(file) == TEXT
    assert read(file, "cp1252") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_utf16_of_either_byte_order_is_read_with_a_mark_and_named_without(
    file: Path, encoding: str
) -> None:
    file.write_bytes(f"\ufeff{TEXT}".encode(encoding))
    assert read(file) == TEXT
    file.write_bytes(TEXT.encode(encoding))
    with pytest.raises(DataError, match=rf"looks like {encoding} without a byte-order mark"):
        read(file)
    assert read(file, encoding) == TEXT


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "iso8859-15", "cp437", "mac_roman"])
def test_a_declared_encoding_is_read(file: Path, encoding: str) -> None:
    file.write_bytes(TEXT.encode(encoding))
    assert read(file, encoding) == TEXT


@pytest.mark.parametrize("packing", PACKERS)
def test_packed_files_are_read_whatever_their_name(file: Path, packing: str) -> None:
    file.write_bytes(PACKERS[packing](TEXT.encode("utf-16")))
    assert read(file) == TEXT


@pytest.mark.parametrize("packing", PACKERS)
def test_a_packed_file_that_is_cut_off_is_named_with_its_packing(file: Path, packing: str) -> None:
    whole = PACKERS[packing](b"".join(b"%d,%d\n" % (n, n * n) for n in range(50_000)))
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"truncated or damaged {packing} file"):
        read(file)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_that_a_decoder_cannot_begin_with_is_refused(file: Path, encoding: str) -> None:
    """UTF-16 needs its mark; without it the decoder gives up as a whole."""
    file.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match=f"cannot be read as {encoding}: .*BOM.*encoding"):
        read(file, encoding)


def test_a_file_packed_twice_is_refused(file: Path) -> None:
    file.write_bytes(bz2.compress(gzip.compress(b"a,b\n")))
    with pytest.raises(DataError, match="packed twice: gzip inside bz2"):
        read(file)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PK\x03\x04rest", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1crest", "a 7z archive"),
        (b"PAR1rest", "a Parquet file"),
        (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "an HTML page .does its address"),
        (b"<html>", "an HTML page"),
        (b"<?xml version='1.0'?>", "an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"x" * 257 + b"ustar\0", "a tar archive"),
        (zlib.compress(b"a,b\n"), "data packed by zlib"),
        (lzma.compress(b"a,b\n", lzma.FORMAT_ALONE), "a file packed by 'lzma'"),
        (pickle.dumps({"a": [1] * 99}, 5), "a Python pickle"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}", "a NumPy array"),
        (gzip.compress(b"x" * 257 + b"ustar\0", mtime=0), "a tar archive"),
    ],
)
def test_what_is_no_text_is_refused_by_name(file: Path, head: bytes, name: str) -> None:
    file.write_bytes(head)
    with pytest.raises(DataError, match=name):
        read(file)


def test_an_empty_file_is_empty_text(file: Path) -> None:
    file.write_bytes(b"")
    assert read(file) == ""


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="cannot be read: Is a directory"),
        open_bytes(tmp_path) as file,
    ):
        file.read()


@pytest.mark.parametrize(
    ("raw", "encoding", "escaped"),
    [
        (b"gr\xfcn", "utf-8", r"gr\xfcn"),
        (b"a\xed\xa0\x80", "utf-8", r"a\xed\xa0\x80"),  # a surrogate, which UTF-8 has none of
        (b"a\x81b", "cp1252", r"a\x81b"),
        (b"x\0\0\xd8y\0", "utf-16-le", r"x\x00\xd8y"),  # half a pair, its bytes below 0x80 kept
        (b"\x83", "shift_jis", r"\x83"),
    ],
)
def test_bytes_of_another_encoding_are_found_and_shown(
    file: Path, raw: bytes, encoding: str, escaped: str
) -> None:
    file.write_bytes(raw)
    text = read(file, encoding)
    assert has_bad_bytes(text)
    assert shown(text) == escaped
    assert not has_bad_bytes(shown(text))


def test_the_hint_shows_what_another_encoding_reads(file: Path) -> None:
    file.write_bytes(b"M\xfcnchen")
    assert encoding_hint(read(file)) == "cp1252 reads 'München'"
    file.write_bytes(b"M\x81nchen")
    assert encoding_hint(read(file)) == ""
