"""Folders of images, one folder for each class. Files are taken as they are, not decoded."""

import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.data.raw_rows import BadRow, SourceRows
from contract.errors import DataError
from contract.schema.data_sources import ImagesSource

log = logging.getLogger("slipway")

_SUFFIXES = (".jpg", ".jpeg", ".png")
_BATCH_ROWS = 256
_SHOWN = 3
# Sources: ITU-T T.81 (JPEG: start and end of image), ISO/IEC 15948 (PNG: signature, IEND and CRC).
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"
_TAIL_BYTES = 64  # some cameras and editors pad a JPEG


def files(source: ImagesSource) -> list[Path]:
    """Return the folders of the classes."""
    root = Path(source.folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one that holds a folder for each class")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and _is_shown(path.name))
    found = [folder for folder in classes if next(_images(folder), None) is not None]
    _tell_others(root, found)
    if not found:
        raise DataError(
            f"{root}: {len(classes)} folders, none with a file that ends in "
            f"{', '.join(_SUFFIXES)}; expected a folder for each class with its images"
        )
    return found


def columns(source: ImagesSource, file: Path) -> tuple[str, ...]:  # noqa: ARG001
    """Return the three columns."""
    return ("image", "label", "path")


def read(source: ImagesSource, file: Path) -> Iterator[SourceRows]:
    """Yield the images of one class by name; rows count from 1, one for each image."""
    images = enumerate(_images(file), start=1)
    root = Path(source.folder)
    while block := list(islice(images, _BATCH_ROWS)):
        rows: list[int] = []
        contents: list[bytes] = []
        paths: list[str] = []
        bad = []
        for number, path in block:
            content, problem = _content(path)
            if problem:
                bad.append(BadRow(str(path), number, f"image: {problem}", "", path.name))
                continue
            rows.append(number)
            contents.append(content)
            paths.append(str(path.relative_to(root)))
        batch = pa.RecordBatch.from_pydict(
            {
                "image": pa.array(contents, pa.binary()),
                "label": pa.array([file.name] * len(rows), pa.string()),
                "path": pa.array(paths, pa.string()),
            }
        )
        yield SourceRows(str(file), np.array(rows, np.int64), batch, tuple(bad))


def size_bytes(source: ImagesSource, file: Path) -> int:  # noqa: ARG001
    """Return the size of all images of one class."""
    return sum(path.stat().st_size for path in _images(file))


# --- inside -------------------------------------------------------------------------------------


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in _files(folder) if _is_image(path))


def _files(folder: Path) -> Iterator[Path]:
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if _is_shown(name))
        yield from (Path(place, name) for name in sorted(names) if _is_shown(name))


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(_SUFFIXES)


def _tell_others(root: Path, classes: list[Path]) -> None:
    """Say which files are left out because of their names."""
    others = [path for folder in classes for path in _files(folder) if not _is_image(path)]
    if others:
        log.warning(
            "%s: %d files are left out, because their names do not end in %s: %s%s",
            root,
            len(others),
            ", ".join(_SUFFIXES),
            ", ".join(str(path.relative_to(root)) for path in others[:_SHOWN]),
            ", ..." if len(others) > _SHOWN else "",
        )


def _is_shown(name: str) -> bool:
    return not name.startswith((".", "_"))


def _content(path: Path) -> tuple[bytes, str]:
    """Return a file's bytes and what is wrong with them, "" if nothing."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"
    if not content:
        return b"", "empty"
    if content.startswith(_JPEG):
        is_whole = _JPEG_END in content[-_TAIL_BYTES:]
    elif content.startswith(_PNG):
        is_whole = _PNG_END in content[-_TAIL_BYTES:]
    else:
        return b"", "neither a JPEG nor a PNG file"
    return content, "" if is_whole else "truncated"
