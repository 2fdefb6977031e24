"""Small files that many processes share without a lock: on a disk, or in an object store.

What the evaluation queue asks of storage, and no more. That one of many writers wins rests on
`create` alone: a hard link on a disk, a conditional write (`If-None-Match: *`) in an object store.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from contract.errors import ConfigError, StorageError
from contract.storage import ORIGIN, create_exclusively, storage_errors, write_atomically


class Store(Protocol):
    """Text by key below one place; keys are relative paths such as `leases/10/1`."""

    def create(self, key: str, content: str) -> bool:
        """Write `content` whole if there is nothing under `key`; tell whether it is ours now.

        Give each writer's content something unique: a lost answer (NFS, S3) may make a
        successful write look like a refused one, and only the content tells.
        """
        ...

    def write(self, key: str, content: str) -> None:
        """Write `content` whole, whatever was there."""
        ...

    def read(self, key: str) -> str | None:
        """Return what is under a key, or None."""
        ...

    def names(self, folder: str) -> frozenset[str]:
        """Return the names directly below a folder; an empty list if it does not exist."""
        ...

    def written_at(self, key: str) -> float:
        """Return when a key was written, in seconds, by the clock of the storage."""
        ...


def store_of(folder: Path) -> Store:
    """Return the store at a folder: the folder, or its like in the object store of its root."""
    root = next((parent for parent in folder.parents if (parent / ORIGIN).is_file()), None)
    if root is None:
        return FolderStore(folder)
    place = folder.relative_to(root).as_posix()
    return ObjectStore(f"{(root / ORIGIN).read_text(encoding='utf-8')}/{place}")


class FolderStore:
    """A folder of a POSIX file system, local or mounted: links are made, or refused, at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, key: str, content: str) -> bool:
        """See `Store`."""
        return create_exclusively(self._path / key, content) or self.read(key) == content

    def write(self, key: str, content: str) -> None:
        """See `Store`."""
        write_atomically(self._path / key, content)

    def read(self, key: str) -> str | None:
        """See `Store`."""
        try:
            return (self._path / key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> frozenset[str]:
        """See `Store`; files that begin with a dot are being written."""
        try:
            found = [path.name for path in (self._path / folder).iterdir()]
        except FileNotFoundError:
            return frozenset()
        return frozenset(name for name in found if not name.startswith("."))

    def written_at(self, key: str) -> float:
        """See `Store`."""
        with storage_errors(self._path / key):
            return (self._path / key).stat().st_mtime


class ObjectStore:
    """A prefix of an object store that fsspec can open and that refuses to overwrite if asked to.

    S3 does since 2024; s3fs sends `If-None-Match: *` for `mode="create"`. All errors but a missing
    object are StorageErrors, which may be retried.
    """

    def __init__(self, uri: str, **options: Any) -> None:
        """Open `s3://bucket/prefix` or the like; `options` are those of fsspec's file system.

        Raises:
            ConfigError: If fsspec does not know the scheme, or lacks a package for it.
        """
        import fsspec  # only here: it costs each process 0.1 s

        try:
            self._filesystem, self._path = fsspec.core.url_to_fs(uri, **options)
        except (ImportError, ValueError) as error:
            raise ConfigError([f"store '{uri}': cannot be opened: {error}"]) from error

    def create(self, key: str, content: str) -> bool:
        """See `Store`."""
        with self._explained(key, "cannot create"):
            try:
                self._filesystem.pipe_file(self._at(key), content.encode(), mode="create")
            except FileExistsError:
                return self.read(key) == content
            except OSError:
                # s3fs knows the refusal (412) only of servers that name the condition, as Amazon's
                if (there := self.read(key)) is None:
                    raise
                return there == content
        return True

    def write(self, key: str, content: str) -> None:
        """See `Store`."""
        with self._explained(key, "cannot write"):
            self._filesystem.pipe_file(self._at(key), content.encode())

    def read(self, key: str) -> str | None:
        """See `Store`."""
        with self._explained(key, "cannot read"):
            try:
                return bytes(self._filesystem.cat_file(self._at(key))).decode()
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> frozenset[str]:
        """See `Store`."""
        place = self._at(folder)  # which some servers name where it is empty
        with self._explained(folder, "cannot be listed"):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.ls(place, detail=False)
            except FileNotFoundError:
                return frozenset()
        paths = (path.rstrip("/") for path in found)
        return frozenset(path.removeprefix(f"{place}/") for path in paths if path != place)

    def written_at(self, key: str) -> float:
        """See `Store`."""
        with self._explained(key, "its time cannot be read"):
            self._filesystem.invalidate_cache()
            return float(self._filesystem.modified(self._at(key)).timestamp())

    @contextlib.contextmanager
    def _explained(self, key: str, what: str) -> Iterator[None]:
        """Name the object in errors: fsspec's file systems raise their clients' own ones."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            reason = str(error).partition("\n")[0][:300] or type(error).__name__
            raise StorageError(f"{self._at(key)}: {what}: {reason}") from error

    def _at(self, key: str) -> str:
        return f"{self._path}/{key}".rstrip("/")
