"""IDX files, the format of MNIST: a pair of arrays, images and their labels.

Source of the format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, a type code, the number of
dimensions, each dimension as a big-endian int32, then the values, big-endian).
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.data.raw_rows import SourceRows
from components.data.text_files import open_bytes
from components.ingest.sources.source import find_files
from contract.errors import DataError
from contract.schema.data import IdxSource

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[np.generic]
    rows: int
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def files(source: IdxSource) -> list[Path]:
    """Return the images' file, after a check that there is a label for each image."""
    find_files((source.images, source.labels))
    images, labels = Path(source.images), Path(source.labels)
    with open_bytes(images) as file:
        images_header = _read_header(images, file)
    with open_bytes(labels) as file:
        labels_header = _read_header(labels, file)
    if labels_header.shape:
        raise DataError(f"{labels}: expected one dimension, found {1 + len(labels_header.shape)}")
    if images_header.rows != labels_header.rows:
        raise DataError(
            f"{images} announces {images_header.rows:,} images, but {labels} announces "
            f"{labels_header.rows:,} labels; expected equal numbers"
        )
    if not images_header.rows:
        raise DataError(f"{images}: no rows")
    return [images]


def columns(source: IdxSource, file: Path) -> tuple[str, ...]:  # noqa: ARG001
    """Return the two columns."""
    return ("image", "label")


def read(source: IdxSource, file: Path) -> Iterator[SourceRows]:
    """Yield images as lists of numbers with their labels; rows count from 1."""
    labels = Path(source.labels)
    first = 1
    for images, names in zip(_blocks(file), _blocks(labels), strict=True):
        flat = pa.array(np.ascontiguousarray(images.reshape(-1)))
        batch = pa.RecordBatch.from_arrays(
            [pa.FixedSizeListArray.from_arrays(flat, images.shape[1]), pa.array(names[:, 0])],
            ["image", "label"],
        )
        yield SourceRows(str(file), np.arange(first, first + len(images)), batch)
        first += len(images)


def size_bytes(source: IdxSource, file: Path) -> int:  # noqa: ARG001
    """Return the size of all images, unpacked."""
    with open_bytes(file) as opened:
        header = _read_header(file, opened)
    return header.rows * header.row_bytes


# --- inside -------------------------------------------------------------------------------------


def _blocks(path: Path) -> Iterator[npt.NDArray[np.generic]]:
    """Yield `[rows, values]` in the machine's byte order."""
    with open_bytes(path) as file:
        header = _read_header(path, file)
        for start in range(0, header.rows, _BATCH_ROWS):
            rows = min(_BATCH_ROWS, header.rows - start)
            data = file.read(rows * header.row_bytes)
            if len(data) < rows * header.row_bytes:
                got = start + len(data) // header.row_bytes
                raise DataError(f"{path}: truncated: {got:,} of {header.rows:,} rows are there")
            values = np.frombuffer(data, header.dtype).reshape(rows, -1)
            yield values.astype(header.dtype.newbyteorder("="))
        if file.read(1):
            raise DataError(f"{path}: more data than its header announces ({header.rows:,} rows)")


def _read_header(path: Path, file: IO[bytes]) -> _Header:
    magic = file.read(4)
    if not magic:
        raise DataError(f"{path}: empty; expected an IDX file")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not magic[3]:
        raise DataError(f"{path}: not an IDX file: it begins with {magic.hex(' ')}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: truncated: its header is incomplete")
    rows, *shape = struct.unpack(f">{magic[3]}i", sizes)
    return _Header(np.dtype(_DTYPES[magic[2]]), rows, tuple(shape))
