"""Files of object stores and web servers as paths: `s3://`, `gs://`, `http(s)://`, by fsspec.

Credentials are where each store's own library looks for them (environment variables, a profile, the
machine's role), never in a path. What a store refuses is a `DataError`; a store that does not
answer, or breaks off, is a `ServiceUnavailableError`, after which a retry may help.
"""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import IO, Any

from contract.errors import DataError, ServiceUnavailableError, SlipwayError

_BUFFER_BYTES = 1 << 20
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
_REFUSED = frozenset({401, 403})


def is_remote(path: str) -> bool:
    """Tell whether a path or glob has a scheme, such as `s3://`."""
    return "://" in path


def source_path(path: str) -> Path:
    """Return a path of this machine, or of a store."""
    return RemotePath.of(path) if is_remote(path) else Path(path)


class RemotePath(PosixPath):
    """A file of a store. It is opened, measured and named as a file of this machine is."""

    @classmethod
    def of(cls, url: str) -> "RemotePath":
        """Return the path of a URL.

        Raises:
            DataError: If a name in it is empty or `.`, which no path has.
        """
        path = cls(url)
        if str(path) != url.rstrip("/"):
            raise DataError(f"{url}: expected names between single slashes; rename the object")
        return path

    def __str__(self) -> str:
        scheme, *names = self.parts
        return f"{scheme}//{'/'.join(names)}"

    def __fspath__(self) -> str:
        return str(self)

    def open(self, mode: str = "rb", *_: Any, **__: Any) -> IO[Any]:  # type: ignore[override]
        """Open the file for reading bytes.

        Raises:
            SlipwayError: As above; also while it is read.
        """
        if mode != "rb":
            raise ValueError(f"{self}: files of stores are read as bytes only, not {mode!r}")
        with told(str(self)):
            filesystem, name = _filesystem(str(self))
            info = filesystem.info(name)
            if self.parts[0].startswith("http") and not info.get("partial"):
                return _copy(filesystem, name)
            opened = filesystem.open(name, "rb")
        return io.BufferedReader(_Guarded(opened, str(self), info.get("size")), _BUFFER_BYTES)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002
        """Return the size; the rest is 0."""
        with told(str(self)):
            filesystem, name = _filesystem(str(self))
            size = filesystem.info(name).get("size") or 0
        return os.stat_result((0, 0, 0, 0, 0, 0, size, 0, 0, 0))

    def is_file(self) -> bool:
        """Tell whether the store has it."""
        with told(str(self)):
            filesystem, name = _filesystem(str(self))
            return bool(filesystem.isfile(name))


def find_remote(pattern: str) -> list[Path]:
    """Return the files that a URL or glob names, by name; those in and below it if it is a folder.

    Raises:
        DataError: If there are none, or the store refuses to say.
        ServiceUnavailableError: If the store does not answer.
    """
    with told(pattern):
        filesystem, name = _filesystem(pattern)
        filesystem.invalidate_cache()
        if pattern.startswith("http"):  # a server has no list, and ? is no wildcard
            filesystem.info(name)
            return [source_path(pattern)]
        names = sorted(filesystem.glob(name))
        if names in ([], [name]) and filesystem.isdir(name):
            root = name.rstrip("/")
            names = [one for one in sorted(filesystem.find(name)) if _is_shown(one, root)]
        else:
            names = [one for one in names if filesystem.isfile(one)]
    if not names:
        raise DataError(f"{pattern}: no such file; expected one, or a glob that matches some")
    return [RemotePath.of(filesystem.unstrip_protocol(one)) for one in names]


@contextmanager
def told(place: str) -> Iterator[None]:
    """Turn what a store's library raises into an error that says what to do."""
    try:
        yield
    except SlipwayError:
        raise
    except Exception as error:
        raise _explained(place, error) from error


# --- inside -------------------------------------------------------------------------------------


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec  # only here: it costs each process 0.1 s

    filesystem, name = fsspec.core.url_to_fs(url)
    return filesystem, str(name)


def _copy(filesystem: Any, name: str) -> IO[bytes]:
    """Return a whole file as a temporary one: its server sends no parts of it."""
    with tempfile.NamedTemporaryFile() as copied:
        filesystem.get_file(name, copied.name)
        return Path(copied.name).open("rb")  # it stays until it is closed


class _Guarded(io.RawIOBase):
    """A store's open file, whose errors are ours, and whose end is where the store said."""

    def __init__(self, file: Any, place: str, size: int | None) -> None:
        self._file, self._place, self._size = file, place, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with told(self._place):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        with told(self._place):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        if not data and len(buffer) and self._size is not None and self.tell() < self._size:
            raise ServiceUnavailableError(
                f"{self._place}: ends after {self.tell():,} of {self._size:,} bytes; it was "
                "replaced, or its store broke off"
            )
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _is_shown(name: str, root: str) -> bool:
    below = name.removeprefix(root).strip("/").split("/")
    return bool(below[-1]) and not any(part.startswith((".", "_")) for part in below)


def _explained(place: str, error: Exception) -> SlipwayError:
    scheme = place.partition("://")[0]
    chain = [*_chain(error)]
    if isinstance(error, ImportError):
        package = _PACKAGES.get(scheme, "fsspec's package for it")
        return DataError(f"{place}: {scheme}:// needs another package; install {package}")
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return DataError(f"{place}: fsspec does not know {scheme}://")
    if any(_is_refusal(one) for one in chain):
        where = _CREDENTIALS.get(scheme)
        advice = f"; check {where}" if where else ""
        return DataError(f"{place}: the store refuses access, or found no credentials{advice}")
    is_silent = any("Connect" in type(one).__name__ for one in chain)
    if isinstance(error, FileNotFoundError) and not is_silent:
        return DataError(f"{place}: no such file or bucket")
    return ServiceUnavailableError(
        f"{place}: the store did not answer as it should ({type(chain[-1]).__name__})"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_refusal(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    names = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
    return isinstance(error, PermissionError) or status in _REFUSED or type(error).__name__ in names
