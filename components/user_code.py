"""The user's `preprocessing.py` and `model.py`, loaded from the frozen copy."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from contract.errors import UserCodeError, did_you_mean


def load_module(folder: Path, filename: str) -> ModuleType:
    """Import one file of a pipeline folder; modules beside it can be imported by it.

    Raises:
        UserCodeError: If the file is missing or raises while it is imported.
    """
    path = folder / filename
    if not path.exists():
        raise UserCodeError(f"{path}: no such file; a pipeline folder needs one")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    specification = importlib.util.spec_from_file_location(f"pipeline_{path.stem}", path)
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
    """Turn whatever a user's function raises into a UserCodeError with its file and line."""
    try:
        yield
    except UserCodeError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [f for f in frames if "/pipeline" in f.filename]
        frame = (theirs or frames)[-1]
        file, line, said = frame.filename, frame.lineno, str(error)
        if isinstance(error, SyntaxError) and error.filename:  # no frame of theirs: it never ran
            file, line, said = error.filename, error.lineno, error.msg
        place = f"{Path(file).name}:{line}"
        raise UserCodeError(f"{where}: {type(error).__name__} at {place}: {said}") from error


def _file(module: ModuleType) -> str:
    return Path(module.__file__ or module.__name__).name
