"""Writing so that readers see all or nothing, and so that two writers cannot both win.

A root is a POSIX file system (a disk or a mounted volume), and `local_path` is the one place that
says so. The folder of a root in an object store (see `staging`) has a file `.origin` with its URI:
fencing tokens below it are in that store.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import ConfigError, ConflictError, DiskFullError, StorageError
from contract.layout import RESULT

if TYPE_CHECKING:
    from contract.stores import Store

ORIGIN = ".origin"  # in a scratch folder: the URI of the object store that it stands for

_BLOCK_BYTES = 1 << 20
_RESERVE_BYTES = 1 << 13
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_REFUSALS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def local_path(uri: str) -> Path:
    """Return the path behind a root URI (`/data`, `file:///data`).

    Raises:
        ConfigError: For any other scheme: TensorFlow cannot open object stores itself.
    """
    if "://" not in uri:
        return Path(uri).absolute()
    import fsspec  # only here: it costs each process 0.1 s

    filesystem, path = fsspec.core.url_to_fs(uri)
    if "file" not in filesystem.protocol:
        raise ConfigError(
            [
                f"root '{uri}': expected a local path or a mounted volume; with an object store "
                "there are 'slipway check', 'slipway run --local' up to the package, and 'slipway "
                "status'; services, deployment, Airflow and pods need a volume"
            ]
        )
    return Path(path).absolute()


# --- whole or not at all ------------------------------------------------------------------------


@contextlib.contextmanager
def publish_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling to fill; rename it to `target` when the block ends well.

    An old `target` is replaced whole. On any error, and on a kill, `target` is left as it was; the
    remains of a killed attempt are removed by the next one.

    Raises:
        DiskFullError: If the disk is full.
        StorageError: If it refuses the write.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for remains in target.parent.glob(f".{target.name}.tmp-*"):
            shutil.rmtree(remains, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
        temporary.chmod(0o755)
        try:
            yield temporary
            _replace_directory(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that readers see the old content or the new, never a part of it."""
    with _written_sibling(path, content) as written:
        written.chmod(0o644)
        written.replace(path)


def create_exclusively(path: Path, content: bytes | str) -> bool:
    """Create a file whole, only if there is none; return whether this caller created it."""
    with _written_sibling(path, content) as written:
        try:
            os.link(written, path)
        except FileExistsError:
            return False
    return True


def reserve(path: Path) -> None:
    """Keep room for a small file that may have to be written when the disk is full."""
    with contextlib.suppress(OSError):
        _reserve_of(path).write_bytes(b" " * _RESERVE_BYTES)


def write_in_reserve(path: Path, document: str) -> None:
    """Write a JSON document into the room that `reserve` has kept; one that is longer is refused.

    Raises:
        OSError: If there is no room.
    """
    content = document.encode()
    if len(content) > _RESERVE_BYTES:
        raise OSError(errno.ENOSPC, f"{path}: {len(content)} bytes, room for {_RESERVE_BYTES}")
    with _reserve_of(path).open("r+b") as file:  # in place: it needs no further block
        file.write(content.ljust(_RESERVE_BYTES))
        file.flush()
        os.fsync(file.fileno())
    _reserve_of(path).replace(path)


def _reserve_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.reserve")


@contextlib.contextmanager
def _written_sibling(path: Path, content: bytes | str) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that holds the content; afterwards it is gone."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock on `path` for a read-check-write; it is let go when the process dies.

    The kernel wakes who waits; the library filelock looks again every 50 ms (four processes with
    sections of 2 ms: the longest wait is 0.36 s by filelock, 0.02 s here).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def sole_lock(path: Path, holder: str, advice: str) -> Iterator[None]:
    """Hold a lock on `path`, or refuse at once; it is let go when the process dies.

    Args:
        holder: What holds it, as messages to others name it.
        advice: What the others can do.

    Raises:
        ConflictError: If another process holds it, also one of another machine; it is named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            other = file.read().strip() or f"another {holder}"
            raise ConflictError(f"{path}: held by {other}; {advice}") from error
        file.truncate(0)
        file.write(f"{holder}, process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours, which name the target.

    A full disk is recognised by its words too: of a tree's copy, TensorFlow and Beam there is
    nothing else.

    Raises:
        DiskFullError: If no space or quota is left.
        StorageError: If the disk is read-only, broken or another user's.
    """
    try:
        yield
    except Exception as error:
        if reason := _full_disk_words(error):
            raise DiskFullError(_disk_full(target, reason)) from error
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            raise StorageError(f"{target}: cannot write: {error.strerror}") from error
        raise


def _full_disk_words(error: Exception) -> str:
    """Return the line of an error that says that the disk is full, or `""`."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:300] for line in lines if any(words in line for words in _FULL)), "")


def _disk_full(target: Path, reason: str) -> str:
    place = next(p for p in target.absolute().parents if p.exists())
    disk = shutil.disk_usage(place)
    return (
        f"{target}: disk full; nothing was published ({reason}). {place} has {disk.free:,} of "
        f"{disk.total:,} bytes free; 'slipway check' says how many a run may need. Free space and "
        "run again."
    )


# --- who owns an output -------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """A fencing token: of all attempts at one step of one run, the highest number owns it."""

    folder: Path
    number: int

    @classmethod
    def claim(cls, folder: Path) -> "Attempt":
        """Take the next number; from now on every earlier attempt is fenced off."""
        number = _highest(folder) + 1
        if (store := _store_elsewhere(folder)) is not None:
            number = max(number, _newest_name(store.names("")) + 1)
            while not store.create(str(number), uuid.uuid4().hex):
                number += 1
            create_exclusively(folder / str(number), str(os.getpid()))
            return cls(folder, number)
        while not create_exclusively(folder / str(number), str(os.getpid())):
            number += 1
        return cls(folder, number)

    @staticmethod
    def newest(folder: Path) -> int:
        """Return the number of the latest attempt; 0 before the first."""
        return _highest(folder)

    def check(self) -> None:
        """Raise ConflictError if a later attempt has taken over."""
        store = _store_elsewhere(self.folder)
        highest = _highest(self.folder) if store is None else _newest_name(store.names(""))
        if highest > self.number:
            raise ConflictError(
                f"attempt {self.number} of {self.folder.name} was overtaken by attempt {highest}; "
                "it publishes nothing"
            )


def _highest(folder: Path) -> int:
    return _newest_name(path.name for path in folder.glob("[0-9]*"))


def _newest_name(names: Iterable[str]) -> int:
    return max((int(name) for name in names if name.isdigit()), default=0)


def _store_elsewhere(folder: Path) -> "Store | None":
    """Return the store of a folder's tokens if they are in an object store, else None."""
    if not any((parent / ORIGIN).is_file() for parent in folder.parents):
        return None
    from contract.stores import store_of

    return store_of(folder)


# --- digests ------------------------------------------------------------------------------------


def digest_bytes(content: bytes) -> str:
    """Return `sha256:<hex>` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_file(path: Path) -> str:
    """Return `sha256:<hex>` of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def digest_directory(path: Path) -> str:
    """Return `sha256:<hex>` over the names and contents of all files below a directory.

    Byte-code caches and `result.json` do not count: they are not what an artifact says.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        if "__pycache__" in file.parts or file == path / RESULT:
            continue
        digest.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a directory."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _replace_directory(temporary: Path, target: Path) -> None:
    old = target.parent / f".{target.name}.tmp-old-{os.getpid()}"
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)
