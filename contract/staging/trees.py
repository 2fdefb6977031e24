"""A folder in an object store: a list of names and digests, and an object for each content."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.errors import StorageError
from contract.layout import RESULT
from contract.records.record import Record
from contract.staging.bucket import Bucket
from contract.storage import digest_file, publish_directory

_UNFINISHED = re.compile(r"\..*\.tmp-.*")  # what `publish_directory` has not renamed


class StoredFile(BaseModel):
    """One file of a folder."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    path: str = Field(description="Where it is, relative to the folder.")
    digest: str = Field(description="'sha256:' and the digest of its content.")

    @model_validator(mode="after")
    def _inside(self) -> "StoredFile":
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"path: '{self.path}' leads out of the folder")
        return self


class StoredTree(Record):
    """The files of a folder, and its empty folders."""

    files: tuple[StoredFile, ...] = Field((), description="All files, by name.")
    empty: tuple[str, ...] = Field((), description="Empty folders, such as TensorFlow makes.")

    @classmethod
    def of(cls, folder: Path, but: str = RESULT) -> "StoredTree":
        """Describe a folder; byte-code caches and one name do not belong to it."""
        found = [p for p in sorted(folder.rglob("*")) if not _is_left_out(p.relative_to(folder))]
        files = (p for p in found if p.is_file() and p != folder / but)
        empty = (p for p in found if p.is_dir() and not any(p.iterdir()))
        return cls(
            files=tuple(StoredFile(path=_name(p, folder), digest=digest_file(p)) for p in files),
            empty=tuple(_name(p, folder) for p in empty),
        )

    @property
    def digests(self) -> frozenset[str]:
        """The digests of all its files."""
        return frozenset(file.digest for file in self.files)


def upload(bucket: Bucket, objects: str, tree: StoredTree, folder: Path) -> None:
    """Write the contents of a folder that are not yet among the objects below a prefix."""
    known = bucket.found(objects).keys()
    places = {_hex(file.digest): folder / file.path for file in tree.files}
    missing = {f"{objects}/{name}": path for name, path in places.items() if name not in known}
    if missing:
        bucket.upload(missing)


def download(
    bucket: Bucket, objects: str, tree: StoredTree, folder: Path, beside: Mapping[str, str]
) -> None:
    """Make a folder equal to what was described; what it has already is not read again.

    Args:
        bucket: The object store.
        objects: The prefix of the objects.
        tree: What the folder is to hold.
        folder: It is replaced whole, or left as it was.
        beside: Small files that come with it, by name: their text.

    Raises:
        StorageError: If an object is missing, or is not what its name says.
    """
    if folder.is_dir() and _same(StoredTree.of(folder), tree):
        _write(folder, beside)
        return
    with publish_directory(folder) as temporary:
        _fill(temporary, bucket, objects, tree, folder)
        _write(temporary, beside)


def _fill(target: Path, bucket: Bucket, objects: str, tree: StoredTree, earlier: Path) -> None:
    """Fill an empty folder with what an earlier one has of it, and with objects."""
    wanted: dict[str, Path] = {}
    for file in tree.files:
        place = target / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if not _taken_over(earlier / file.path, place, file.digest):
            wanted.setdefault(file.digest, place)
    if wanted:
        bucket.download({f"{objects}/{_hex(digest)}": path for digest, path in wanted.items()})
    for file in tree.files:
        place = target / file.path
        if not place.exists():
            shutil.copyfile(wanted[file.digest], place)
        if digest_file(place) != file.digest:
            raise StorageError(f"{objects}/{_hex(file.digest)}: damaged; run the step again")
    for name in tree.empty:
        (target / name).mkdir(parents=True, exist_ok=True)


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _taken_over(there: Path, here: Path, digest: str) -> bool:
    if not there.is_file() or digest_file(there) != digest:
        return False
    os.link(there, here)
    return True


def _same(one: StoredTree, other: StoredTree) -> bool:
    return (set(one.files), set(one.empty)) == (set(other.files), set(other.empty))


def _is_left_out(path: Path) -> bool:
    return any(part == "__pycache__" or _UNFINISHED.fullmatch(part) for part in path.parts)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
