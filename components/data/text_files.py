"""Files as bytes and as text: unpacked by their first bytes, decoded by their encoding.

A byte that does not fit the encoding becomes a lone surrogate, so that a reader can tell which row
it spoils. No text with a lone surrogate may leave a reader: `has_bad_bytes` finds it, `shown` makes
it fit to be printed or stored.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

import pyarrow as pa

from contract.errors import DataError

# First bytes, the format's name, and whether it is read. Sources: RFC 1952 (gzip), RFC 8878
# (zstd), the xz and LZ4 frame formats, APPNOTE.TXT (zip); the others as in file(1).
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (or an Excel workbook)",
    b"PK\x05\x06": "an empty zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x1f\x9d": "a file packed by 'compress' (.Z)",
    b"\xff\x06\0\0sNaPpY": "a snappy file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook or other Office file",
    b"PAR1": "a Parquet file (kind: parquet reads it)",
    b"ARROW1": "an Arrow or Feather file",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"]\0\0": "a file packed by 'lzma' (pack it with xz)",
    b"x\x9c": "data packed by zlib, without the header of gzip",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x04\x95": "a Python pickle",
    b"\x80\x05\x95": "a Python pickle",
    b"<!DOCTYPE html": "an HTML page (does its address ask for a login?)",
    b"<!doctype html": "an HTML page (does its address ask for a login?)",
    b"<html": "an HTML page (does its address ask for a login?)",
    b"<?xml": "an XML document",
    b"version https://git-lfs": "a pointer of Git LFS ('git lfs pull' fetches the file itself)",
}
_MARKS = {  # the longer first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HEAD_BYTES = 1024
_TAR_MARK = slice(257, 262)
KEEP_BYTES = "slipway-keep-bytes"
_SURROGATES = ("\ud800", "\udfff")


@contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[TextIO]:
    """Open a text file, plain or packed; a byte-order mark says more than `encoding`.

    Raises:
        DataError: If it is missing, unreadable, truncated, packed in a way that is not read, or no
            text at all. Also while it is read inside the block.
    """
    with open_bytes(path) as file:
        head = _peek(file)
        mark = next((name for start, name in _MARKS.items() if head.startswith(start)), None)
        if mark is None:
            _check_text(path, head, encoding)
        text = io.TextIOWrapper(
            file,  # type: ignore[arg-type]
            encoding=mark or encoding,
            errors=KEEP_BYTES,
            newline="",
        )
        try:
            yield text
        except UnicodeEncodeError:
            raise
        except UnicodeError as error:  # of a decoder as a whole, not of one byte
            reason = getattr(error, "reason", "") or str(error)
            raise DataError(
                f"{path}: cannot be read as {mark or encoding}: {reason}; see "
                "ingest.source.encoding"
            ) from error
        finally:
            text.detach()


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading; gzip, bz2, xz, zstd and lz4 are unpacked, whatever its name.

    Raises:
        DataError: As `open_text`.
    """
    packing = ""
    try:
        with path.open("rb") as raw:
            packing = _packing_of(raw.read(8))
            raw.seek(0)
            if not packing:
                yield raw
                return
            with io.BufferedReader(_unpacked(raw, packing)) as file:
                if again := _packing_of(_peek(file)):
                    raise DataError(f"{path}: packed twice: {again} inside {packing}; unpack once")
                yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged {packing} file: {error}") from error
    except OSError as error:
        if packing and error.errno is None:  # bz2's and Arrow's way to say it
            raise DataError(f"{path}: truncated or damaged {packing} file: {error}") from error
        if isinstance(error, PermissionError | IsADirectoryError):
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        raise


def has_bad_bytes(text: str) -> bool:
    """Tell whether text holds a lone surrogate: a byte that is not of the encoding."""
    return not text.isascii() and any(_SURROGATES[0] <= c <= _SURROGATES[1] for c in text)


def shown(text: str) -> str:
    """Return text without lone surrogates: bytes that are not of the encoding as `\\xe9`."""
    if not has_bad_bytes(text):
        return text
    return "".join(_escaped(c) if _SURROGATES[0] <= c <= _SURROGATES[1] else c for c in text)


def encoding_hint(text: str) -> str:
    """Return how the commonest other encoding reads text with bad bytes, or "" if it cannot."""
    raw = b"".join(_as_byte(c) for c in text)
    try:
        read = raw.decode("cp1252")
    except UnicodeDecodeError:
        return ""
    start = next((i for i, c in enumerate(text) if has_bad_bytes(c)), 0)
    return f"cp1252 reads {read[max(0, start - 12) : start + 12].strip()!r}"


# --- inside -------------------------------------------------------------------------------------


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    """Turn each undecodable byte, also one below 0x80, into its own lone surrogate."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    kept = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in kept), error.end


codecs.register_error(KEEP_BYTES, _keep_bytes)


def _packing_of(head: bytes) -> str:
    return next((name for start, name in _PACKED.items() if head.startswith(start)), "")


def _unpacked(raw: IO[bytes], packing: str) -> Any:
    if packing == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if packing == "bz2":
        return bz2.BZ2File(raw)
    if packing == "xz":
        return lzma.LZMAFile(raw)
    return pa.CompressedInputStream(raw, packing)


def _peek(file: IO[bytes]) -> bytes:
    return file.peek(_HEAD_BYTES)[:_HEAD_BYTES]  # type: ignore[attr-defined,no-any-return]


def _check_text(path: Path, head: bytes, encoding: str) -> None:
    if head[_TAR_MARK] == b"ustar":
        raise DataError(f"{path}: a tar archive; unpack it")
    for start, name in _FOREIGN.items():
        if head.startswith(start):
            raise DataError(
                f"{path}: {name}; expected text, plain or packed with gzip, bz2, xz, zstd or lz4"
            )
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    if not wide and (guess := _wide_encoding(head)):
        raise DataError(
            f"{path}: looks like {guess} without a byte-order mark, not like {encoding}; set "
            f"ingest.source.encoding: {guess}"
        )


def _wide_encoding(head: bytes) -> str:
    """Return UTF-16's name where every other byte is 0, as it is in Western text."""
    even, odd = head[0::2], head[1::2]
    if len(odd) < 4:
        return ""
    zeros = (even.count(0) / len(even), odd.count(0) / len(odd))
    if max(zeros) < 0.7 or min(zeros) > 0.3:
        return ""
    return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"


def _as_byte(character: str) -> bytes:
    if "\udc00" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00])
    return character.encode(errors="replace")


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0 <= byte <= 0xFF else f"\\u{ord(character):04x}"
