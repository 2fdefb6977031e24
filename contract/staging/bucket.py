"""Files in an object store: many at once, with digests that are checked."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from contract.storage import write_atomically
from contract.stores import ObjectStore


class Bucket(ObjectStore):
    """A prefix of an object store, with whole files and lists of them."""

    def upload(self, files: Mapping[str, Path]) -> None:
        """Write files, by key. Each of them is there whole or not at all."""
        keys = list(files)
        with self._explained("", "cannot write"):
            self._filesystem.put([str(files[key]) for key in keys], [self._at(key) for key in keys])

    def download(self, files: Mapping[str, Path]) -> None:
        """Read files, by key; their folders are there.

        Raises:
            StorageError: If one is missing, too.
        """
        keys = list(files)
        with self._explained("", "cannot read"):
            self._filesystem.get([self._at(key) for key in keys], [str(files[key]) for key in keys])

    def copy_down(self, key: str, path: Path) -> None:
        """Make a small file equal to an object; where there is none, there is no file then."""
        text = self.read(key)
        if text is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)

    def found(self, folder: str) -> dict[str, float]:
        """Return when each object below a folder was written (POSIX seconds), by its key there."""
        place = self._at(folder)
        with self._explained(folder, "cannot be listed"):
            self._filesystem.invalidate_cache()
            listed = self._filesystem.find(place, detail=True)
        return {
            path.removeprefix(f"{place}/"): _written_at(entry) for path, entry in listed.items()
        }

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there do not matter."""
        paths = [self._at(key) for key in keys]
        with self._explained("", "cannot be removed"):
            for path in paths:
                if self._filesystem.exists(path):
                    self._filesystem.rm_file(path)


def _written_at(entry: Mapping[str, Any]) -> float:
    """Return when an object was written; each of fsspec's file systems has a name for it."""
    names = ("LastModified", "updated", "last_modified", "mtime", "created")
    found = next(entry[name] for name in names if entry.get(name) is not None)
    moment = datetime.fromisoformat(found) if isinstance(found, str) else found
    return float(moment.timestamp() if isinstance(moment, datetime) else moment)
