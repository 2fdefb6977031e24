"""What a path holds that a model is imported from: found, and copied into a package."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contract.errors import DataError, NotFoundError
from contract.layout import PACKAGE_MANIFEST

Format = Literal["package", "saved_model", "litert"]

_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
_LITERT_SUFFIX = ".tflite"
_LITERT_NAME = "model.tflite"  # by which TensorFlow Serving knows it
_KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
_EXPECTED = (
    f"expected a folder with {_GRAPHS[0]} (a SavedModel), a {_LITERT_SUFFIX} file, or a folder "
    f"with {PACKAGE_MANIFEST} (a package of Slipway's)"
)
_SHOWN_NAMES = 5


@dataclass(frozen=True)
class Source:
    """A model on disk: its folder, or the file of a LiteRT model."""

    path: Path
    format: Format

    def copy(self, target: Path) -> None:
        """Copy it to a folder that does not exist yet.

        Raises:
            DataError: If a part of it cannot be read.
        """
        if self.format == "litert":
            target.mkdir()
            target /= _LITERT_NAME
        copy_readable(self.path, target, f"--from {self.path}")


def find_source(path: Path) -> Source:
    """Return what is at a path.

    Raises:
        NotFoundError: If nothing is there.
        DataError: If it is no model that can be served, with what it is instead.
    """
    if not path.exists():
        raise NotFoundError(f"--from {path}: not found; {_EXPECTED}")
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise DataError(f"--from {path}: found neither a file nor a folder; {_EXPECTED}")
    if (path / PACKAGE_MANIFEST).is_file():
        return Source(path, "package")
    if any((path / name).is_file() for name in _GRAPHS):
        return Source(path, "saved_model")
    files = sorted(path.glob(f"*{_LITERT_SUFFIX}"))
    if len(files) == 1:
        return Source(files[0], "litert")
    raise DataError(f"--from {path}: {_found_instead(path, files)}; {_EXPECTED}")


def copy_readable(path: Path, target: Path, where: str) -> None:
    """Copy a file, or a folder that is not there yet, with what its links lead to.

    Raises:
        DataError: If a part of it cannot be read, such as a link that leads nowhere.
    """
    try:
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copyfile(path, target)
    except shutil.Error as error:
        (part, _, words), *_ = error.args[0]
        raise DataError(f"{where}: cannot be copied: {part}: {words}") from error
    except OSError as error:
        if error.filename != str(path):
            raise  # it is the target that refuses
        raise DataError(f"{where}: cannot be copied: {error}") from error


def _of_file(path: Path) -> Source:
    if path.suffix == _LITERT_SUFFIX:
        return Source(path, "litert")
    if path.suffix in _KERAS_SUFFIXES:
        raise DataError(
            f"--from {path}: found a Keras file, expected a SavedModel; make one with "
            f"keras.saving.load_model('{path.name}').export('DIR'), then package DIR"
        )
    raise DataError(f"--from {path}: found a file; {_EXPECTED}")


def _found_instead(path: Path, litert_files: list[Path]) -> str:
    if litert_files:
        names = ", ".join(file.name for file in litert_files[:_SHOWN_NAMES])
        return f"found several LiteRT files ({names}), name one of them"
    folders = [one for one in path.iterdir() if one.is_dir() and one.name.isdecimal()]
    if folders:
        newest = max(folders, key=lambda one: int(one.name))
        return f"found the folders of {len(folders)} versions, name one of them, such as {newest}"
    held = sorted(one.name for one in path.iterdir())
    return f"found {', '.join(held[:_SHOWN_NAMES]) or 'an empty folder'}"
