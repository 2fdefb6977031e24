"""What every source module offers, and finding files."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from components.data.raw_rows import SourceRows
from components.data.remote_files import find_remote, is_remote
from contract.errors import DataError


class SourceModule(Protocol):
    """The functions of a source module; `source` is its own section of the config."""

    def files(self, source: Any) -> list[Path]:
        """Return the paths that are read, each by itself."""

    def columns(self, source: Any, file: Path) -> tuple[str, ...]:
        """Return the column names of one file."""

    def read(self, source: Any, file: Path) -> Iterator[SourceRows]:
        """Yield the rows of one file."""

    def size_bytes(self, source: Any, file: Path) -> int:
        """Return about how many bytes one file holds."""


def find_files(patterns: tuple[str, ...]) -> list[Path]:
    """Return the files that paths and globs name, each once, in the patterns' order, then by name.

    A path of a folder means all files in it and below; names that begin with a dot or underline
    are left out there, as Hadoop and Spark do (`_SUCCESS`, `.part-0.crc`). URLs name files of
    object stores and web servers.

    Raises:
        DataError: If a pattern matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if is_remote(pattern):
            found.update(dict.fromkeys(find_remote(pattern)))
            continue
        matches = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        if not matches:
            raise DataError(f"{pattern}: no such file; expected one, or a glob that matches some")
        if matches == [Path(pattern)] and matches[0].is_dir():
            matches = _files_below(matches[0])
        found.update(dict.fromkeys(path for path in matches if path.is_file()))
    if not found:
        raise DataError(f"{', '.join(patterns)}: folders only; expected files")
    return list(found)


def check_has_rows(file: Path, count: int) -> None:
    """Raise DataError if a file had none."""
    if not count:
        raise DataError(f"{file}: no rows")


def _files_below(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*"))
    return [
        path
        for path in paths
        if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]
