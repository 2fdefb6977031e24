"""IDX files: read as they are, refused when they are not whole."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from components.ingest.sources import idx
from contract.errors import DataError
from contract.schema.data import IdxSource


def idx_bytes(values: np.ndarray, code: int = 0x08) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}i", 0, 0, code, values.ndim, *values.shape)
    return header + values.tobytes()


@pytest.fixture
def pair(tmp_path: Path) -> IdxSource:
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    (tmp_path / "images").write_bytes(idx_bytes(images))
    (tmp_path / "labels").write_bytes(idx_bytes(np.array([7, 8, 9], np.uint8)))
    return IdxSource(kind="idx", images=str(tmp_path / "images"), labels=str(tmp_path / "labels"))


def test_images_come_with_their_labels(pair: IdxSource) -> None:
    (file,) = idx.files(pair)
    (batch,) = idx.read(pair, file)
    assert batch.columns.to_pylist()[1] == {"image": [4, 5, 6, 7], "label": 8}
    assert batch.rows.tolist() == [1, 2, 3]


def test_big_endian_values_and_gzip_are_read(pair: IdxSource) -> None:
    values = np.array([[1.5, -2.0]], ">f4")
    Path(pair.images).write_bytes(gzip.compress(idx_bytes(values, 0x0D)))
    Path(pair.labels).write_bytes(idx_bytes(np.array([1], np.uint8)))
    (batch,) = idx.read(pair, Path(pair.images))
    assert batch.columns["image"].to_pylist() == [[1.5, -2.0]]


def test_different_numbers_of_images_and_labels_are_refused(pair: IdxSource) -> None:
    Path(pair.labels).write_bytes(idx_bytes(np.array([1, 2], np.uint8)))
    with pytest.raises(DataError, match=r"announces 3 images, but .* announces 2 labels"):
        idx.files(pair)


def test_a_truncated_file_is_refused(pair: IdxSource) -> None:
    path = Path(pair.images)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="truncated: 1 of 3 rows"):
        list(idx.read(pair, path))


def test_a_truncated_gzip_is_refused(pair: IdxSource) -> None:
    path = Path(pair.images)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (3, 50, 50), dtype=np.uint8)
    whole = gzip.compress(idx_bytes(images))
    path.write_bytes(whole[:-200])
    with pytest.raises(DataError, match="truncated or damaged gzip"):
        list(idx.read(pair, path))


def test_more_data_than_announced_is_refused(pair: IdxSource) -> None:
    path = Path(pair.images)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="more data than its header announces"):
        list(idx.read(pair, path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"PNG.....", "not an IDX file"),
        (b"\0\0\x08\x03\0\0", "header is incomplete"),
    ],
)
def test_a_file_that_is_no_idx_is_refused(pair: IdxSource, content: bytes, message: str) -> None:
    Path(pair.images).write_bytes(content)
    with pytest.raises(DataError, match=message):
        idx.files(pair)


def test_a_missing_file_is_refused(pair: IdxSource) -> None:
    Path(pair.labels).unlink()
    with pytest.raises(DataError, match="no such file"):
        idx.files(pair)
