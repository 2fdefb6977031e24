"""Following a folder of JSON-lines files that grow, rotate and go."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

# A pass reads no more than this of one file, to stay short; the next pass continues from there.
_MAX_BYTES = 4 << 20


class LogTail:
    """Reads what was added to a folder's files since the last look.

    A file is known by its inode, so that one renamed in a rotation is not read twice.
    """

    def __init__(self, folder: Path, offsets: dict[str, int] | None = None) -> None:
        """Start at the given offsets (bytes by inode), or behind all that is there now."""
        self._folder = folder
        self.offsets = self._sizes() if offsets is None else offsets

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the complete lines added since; a line that is not a JSON object is skipped."""
        files = self._files()
        present = {inode for inode, _ in files}
        self.offsets = {i: offset for i, offset in self.offsets.items() if i in present}
        for inode, path in files:
            for line in self._added_lines(inode, path):
                if isinstance(entry := _parse(line), dict):
                    yield entry

    def _added_lines(self, inode: str, path: Path) -> list[bytes]:
        start = self.offsets.get(inode, 0)
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(start if start <= size else 0)  # shorter than before: started again
                start = file.tell()
                block = file.read(_MAX_BYTES)
        except FileNotFoundError:  # rotated away a moment ago
            return []
        complete = block[: block.rfind(b"\n") + 1]
        self.offsets[inode] = start + len(complete)
        return complete.splitlines()

    def _files(self) -> list[tuple[str, Path]]:
        """Return the folder's files with their inodes, oldest first."""
        found = []
        for path in self._folder.glob("[!.]*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime_ns, str(status.st_ino), path))
        return [(inode, path) for _, inode, path in sorted(found)]

    def _sizes(self) -> dict[str, int]:
        return {inode: path.stat().st_size for inode, path in self._files()}


def _parse(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
