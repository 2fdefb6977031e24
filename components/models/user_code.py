"""The user's `preprocessing.py` and `model.py`, loaded from the frozen copy."""

import errno
import importlib.util
import inspect
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from contract.errors import SlipwayError, UserCodeError, did_you_mean

# What Keras raises where a user's layer, shape, type or argument does not fit.
_KERAS_REFUSALS = (ValueError, TypeError, NotImplementedError, AttributeError, KeyError)
# What a network or a busy machine says today and may not say tomorrow.
_PASSING = (ConnectionError, TimeoutError, MemoryError, socket.gaierror)
_PASSING_NUMBERS = frozenset(
    {errno.EAGAIN, errno.EHOSTUNREACH, errno.EIO, errno.EMFILE, errno.ENETDOWN}
    | {errno.ENETUNREACH, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
)
_PREFIX = "pipeline_"  # of the names under which users' modules are known


class AsWritten(SourceFileLoader):
    """Loads a file as it is written now.

    Python's bytecode files take a source of equal size and of the same second for unchanged.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load_module(folder: Path, filename: str, loading: type[AsWritten] = AsWritten) -> ModuleType:
    """Import one file of a pipeline folder; modules beside it can be imported by it.

    Args:
        folder: The pipeline folder.
        filename: The file in it.
        loading: Makes its code.

    Raises:
        UserCodeError: If the file is missing or raises while it is imported.
    """
    path = folder / filename
    if not path.exists():
        raise UserCodeError(f"{path}: no such file; a pipeline folder needs it")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    name = f"{_PREFIX}{path.stem}"
    loader = loading(name, str(path))
    specification = importlib.util.spec_from_file_location(name, path, loader=loader)
    if specification is None or specification.loader is None:
        raise UserCodeError(f"{path}: not importable")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    with user_code(f"{filename}: import"):
        specification.loader.exec_module(module)
    return module


def function_of(module: ModuleType, name: str, parameters: tuple[str, ...]) -> Callable[..., Any]:
    """Return a required function of a user's module, after a look at its parameters.

    Raises:
        UserCodeError: If it is missing or takes other parameters.
    """
    function = optional_function(module, name, parameters)
    if function is None:
        raise UserCodeError(
            f"{_file(module)}: expected a function {name}({', '.join(parameters)}), found none"
            f"{did_you_mean(name, vars(module))}"
        )
    return function


def optional_function(
    module: ModuleType, name: str, parameters: tuple[str, ...]
) -> Callable[..., Any] | None:
    """Return a hook of a user's module, or None where the user has not written it."""
    function = getattr(module, name, None)
    if function is None:
        return None
    if not callable(function):
        raise UserCodeError(f"{_file(module)}: '{name}' is not a function")
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError as error:
        raise UserCodeError(
            f"{_file(module)}: {name}{inspect.signature(function)}: expected "
            f"{name}({', '.join(parameters)})"
        ) from error
    return function  # type: ignore[no-any-return]


@contextmanager
def user_code(where: str) -> Iterator[None]:
    """Turn whatever a user's function raises into a UserCodeError with its file and line.

    What a retry may cure becomes a SlipwayError instead: no memory, or a network that was away.
    """
    try:
        yield
    except SlipwayError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() would end the step without a reason
        raise _blamed(where, error) from error


@contextmanager
def library_refusals(where: str, library: str) -> Iterator[None]:
    """Turn what a library raises into a UserCodeError: it is given the user's objects here.

    Args:
        where: Whose objects they are, as `preprocessing.py: preprocessing_fn`.
        library: The library's top package; what has no frame of it passes.
    """
    try:
        yield
    except (SlipwayError, MemoryError, OSError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(f"/{library}/" in frame.filename for frame in frames):
            raise
        raise _blamed(f"{where}: {library} refuses it", error) from error


def blamed_on_user(where: str, error: Exception) -> SlipwayError | None:
    """Return an error's blame, with file and line, if it came out of a user's function or of Keras.

    It is a UserCodeError, or a SlipwayError as in `user_code`. What Keras refuses (a shape, a type,
    an argument) it refuses of the user's layers.
    """
    frames = traceback.extract_tb(error.__traceback__)
    is_refusal = isinstance(error, _KERAS_REFUSALS) and any(
        "/keras/src/" in f.filename for f in frames
    )
    return _blamed(where, error) if is_refusal or _theirs(frames) else None


def _blamed(where: str, error: BaseException) -> SlipwayError:
    frames, kind, said = _theirs(traceback.extract_tb(error.__traceback__)), type(error), str(error)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:  # the code never ran, so it has no frame
        place, said = f" at {Path(error.filename).name}:{error.lineno}", error.msg
    words = f"{where}: {kind.__name__}{place}: {said}"
    return SlipwayError(words) if _may_pass(error) else UserCodeError(words)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, _PASSING):
        return True
    if not isinstance(error, OSError):
        return False
    behind = error.__cause__ or error.__context__  # libraries wrap what a socket raised
    return error.errno in _PASSING_NUMBERS or (behind is not None and _may_pass(behind))


def _theirs(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Return the frames of files in the folders of users' modules."""
    files = [m.__file__ for n, m in sys.modules.items() if n.startswith(_PREFIX) and m.__file__]
    folders = tuple(f"{Path(file).parent}{os.sep}" for file in files)
    return [frame for frame in frames if frame.filename.startswith(folders)]


def _file(module: ModuleType) -> str:
    return Path(module.__file__ or module.__name__).name
