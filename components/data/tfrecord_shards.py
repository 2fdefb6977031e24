"""TFRecord shards: writing and reading them, their names, and what a name says of how to read.

In Python, because a process that has no other use for TensorFlow (`ingest`, `validate`) would spend
two CPU seconds on its import; a record costs about as much either way.

A record is, by tensorflow/core/lib/io/record_writer.h: its length (uint64), the masked checksum of
the length (uint32), its bytes, and their masked checksum (uint32), all little-endian. The checksum
is CRC-32C.
"""

import gzip
import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from google_crc32c import value as crc32c

from contract.schema.data import Compression

_SUFFIXES: dict[Compression, str] = {"gzip": ".tfrecord.gz", "none": ".tfrecord"}

# Level 1 takes a third of the default's time for about a tenth more bytes.
_GZIP_LEVEL = 1
_GZIP_HEADER = 16  # added to the size of zlib's window: write a gzip header, without name and time
_BLOCK_BYTES = 1 << 20

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER = struct.Struct("<QI")
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h


class BrokenRecordError(Exception):
    """A record is cut off or does not match its checksum."""


def write_shard(path: Path, examples: Iterable[bytes], compression: Compression = "gzip") -> None:
    """Write serialized examples as a TFRecord file, to the same bytes every time."""
    with path.open("wb") as file:
        if compression == "none":
            file.writelines(framed(examples))
            return
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=zlib.MAX_WBITS | _GZIP_HEADER)
        for block in _blocks(framed(examples)):
            file.write(packer.compress(block))
        file.write(packer.flush())


def read_records(path: Path, compression: Compression = "gzip") -> Iterator[bytes]:
    """Yield the records of a TFRecord file.

    Raises:
        BrokenRecordError: If the file ends within a record, or a checksum does not match.
        EOFError: If the gzip stream has no end.
        gzip.BadGzipFile, zlib.error: If it is not whole gzip.
        OSError: If the file cannot be read.
    """
    with _opened(path, compression) as file:
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise BrokenRecordError
            length, checksum = _HEADER.unpack(header)
            if _masked_checksum(header[: _LENGTH.size]) != checksum:
                raise BrokenRecordError
            record, checksum_bytes = file.read(length), file.read(_CHECKSUM.size)
            if checksum_bytes != _CHECKSUM.pack(_masked_checksum(record)):
                raise BrokenRecordError
            yield record


def name_shards(
    folder: Path, split: str, written: Sequence[str], compression: Compression = "gzip"
) -> tuple[str, ...]:
    """Give the shards of a split their final names, in the order given, and return these."""
    suffix = _SUFFIXES[compression]
    names = tuple(
        f"{split}-{number:05d}-of-{len(written):05d}{suffix}" for number in range(len(written))
    )
    for old, new in zip(written, names, strict=True):
        (folder / old).rename(folder / new)
    return names


def compression_of(shard: Path) -> Compression:
    """Return the compression of a shard that has its final name."""
    return "gzip" if shard.name.endswith(_SUFFIXES["gzip"]) else "none"


def compression_type(shard: Path) -> str:
    """Return what TensorFlow calls the compression of a shard that has its final name."""
    return "GZIP" if compression_of(shard) == "gzip" else ""


def framed(examples: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a file of these records, with their lengths and checksums."""
    for example in examples:
        length = _LENGTH.pack(len(example))
        yield length + _CHECKSUM.pack(_masked_checksum(length))
        yield example
        yield _CHECKSUM.pack(_masked_checksum(example))


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join parts to blocks that are worth a call of the compressor."""
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _BLOCK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


@contextmanager
def _opened(path: Path, compression: Compression) -> Iterator[IO[bytes]]:
    with path.open("rb", buffering=_BLOCK_BYTES) as raw:
        if compression == "none":
            yield raw
        else:
            with io.BufferedReader(gzip.GzipFile(fileobj=raw), _BLOCK_BYTES) as file:  # type: ignore[arg-type]
                yield file


def _masked_checksum(content: bytes) -> int:
    """Return the CRC-32C, rotated and moved: a checksum of bytes that hold checksums is weak."""
    checksum: int = crc32c(content)
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF
