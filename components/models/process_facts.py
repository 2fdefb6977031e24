"""What Python tells a program about its process, as another process would be told it.

That is its number, its machine's name and size, the user's name, the clock, and the environment
variables that tell these. The standard modules that tell them are copied, and the copies tell
something else. Folders and the user's number stay, because code makes files under such names. All
other environment variables stay, because they are settings.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import date, datetime, timedelta
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, Self

Note = Callable[[str], None]  # told what is read, as `os.getpid()`
Alter = Callable[[Any], Any]

_PRIME = 7919  # no multiple of a small number: a remainder of it changes as well
_SECONDS = 34_667_467.25  # 401 days, 5 hours, 37 minutes: the year, month and weekday change, too
# Code that makes a file or folder of such a name fails instead: Python takes no NUL in a path.
_SUFFIX = "\0-elsewhere"


def other_facts(note: Note) -> dict[str, ModuleType]:
    """Return copies of standard modules, by name, that describe another process."""
    copies = {
        name: _copy(
            name, {one: _altered(f"{name}.{one}", alter, note) for one, alter in own.items()}
        )
        for name, own in _FUNCTIONS.items()
    }
    environment = _Environment(note)
    copies["os"] = _copy(
        "os", {**vars(copies["os"]), "environ": environment, "getenv": environment.get}
    )
    copies["time"] = _copy("time", {**vars(copies["time"]), **_times(note)})
    copies["datetime"] = _copy("datetime", _dates(note))
    return copies


# --- inside -------------------------------------------------------------------------------------


def _more(by: float) -> Alter:
    return lambda found: found + by


def _renamed(found: str) -> str:
    return f"{found}{_SUFFIX}"


def _one_deeper(found: str) -> str:
    return str(int(found) + 1)


def _on_another_host(found: os.uname_result) -> os.uname_result:
    return os.uname_result((found.sysname, _renamed(found.nodename), *found[2:]))


_FUNCTIONS: dict[str, dict[str, Alter]] = {
    "getpass": {"getuser": _renamed},
    "os": {
        "cpu_count": _more(1),
        "getpid": _more(_PRIME),
        "getppid": _more(_PRIME),
        "uname": _on_another_host,
    },
    "platform": {"node": _renamed},
    "socket": {"getfqdn": _renamed, "gethostname": _renamed},
    "time": {
        "monotonic": _more(_SECONDS),
        "monotonic_ns": _more(int(_SECONDS * 1e9)),
        "perf_counter": _more(_SECONDS),
        "perf_counter_ns": _more(int(_SECONDS * 1e9)),
        "process_time": _more(_SECONDS),
        "time": _more(_SECONDS),
        "time_ns": _more(int(_SECONDS * 1e9)),
    },
    "uuid": {"getnode": _more(_PRIME)},
}
_VARIABLES: dict[str, Alter] = {
    **dict.fromkeys(("HOST", "HOSTNAME", "LOGNAME", "USER", "USERNAME"), _renamed),
    "SHLVL": _one_deeper,
}


def _copy(name: str, changed: dict[str, Any]) -> ModuleType:
    copy = ModuleType(name)
    vars(copy).update({**vars(import_module(name)), **changed})
    return copy


def _altered(name: str, alter: Alter, note: Note) -> Callable[..., Any]:
    module, _, function = name.partition(".")
    real = getattr(import_module(module), function)

    @functools.wraps(real)
    def altered(*args: Any, **options: Any) -> Any:
        note(f"{name}()")
        return alter(real(*args, **options))

    return altered


def _times(note: Note) -> dict[str, Callable[..., Any]]:
    """Return the functions of `time` that mean the present where they get no time."""

    def of_now(name: str, arguments: int, now: Callable[[], Any]) -> Callable[..., Any]:
        real = getattr(time, name)

        @functools.wraps(real)
        def function(*args: Any) -> Any:
            if len(args) >= arguments and args[-1] is not None:
                return real(*args)
            note(f"time.{name}()")
            return real(*args[: arguments - 1], now())

        return function

    def seconds() -> float:
        return time.time() + _SECONDS

    return {
        **{name: of_now(name, 1, seconds) for name in ("ctime", "gmtime", "localtime")},
        "asctime": of_now("asctime", 1, lambda: time.localtime(seconds())),
        "strftime": of_now("strftime", 2, lambda: time.localtime(seconds())),
    }


class _AsReal(type):
    """Takes for instances of a class those of the one that it stands for, named `real` in it."""

    def __instancecheck__(cls, one: Any) -> bool:
        real = vars(cls).get("real")
        return super().__instancecheck__(one) if real is None else isinstance(one, real)


class Later(datetime, metaclass=_AsReal):
    """`datetime` on another day. It stands in the module, so that its instances can be pickled."""

    real: ClassVar = datetime
    note: ClassVar[Note]  # of the process that was described last

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        cls.note("datetime.now()")
        return super().now(tz) + timedelta(seconds=_SECONDS)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        cls.note("datetime.utcnow()")
        return super().utcnow() + timedelta(seconds=_SECONDS)


class LaterDate(date, metaclass=_AsReal):
    """`date` on another day, as `Later`."""

    real: ClassVar = date
    note: ClassVar[Note]

    @classmethod
    def today(cls) -> Any:
        cls.note("date.today()")
        return super().today() + timedelta(seconds=_SECONDS)


def _dates(note: Note) -> dict[str, type]:
    Later.note = LaterDate.note = note
    return {"datetime": Later, "date": LaterDate}


class _Environment(MutableMapping[str, str]):
    """The variables of this process; those that describe it have other values.

    A variable that is set through it keeps its value.
    """

    def __init__(self, note: Note) -> None:
        self._note = note
        self._own = set[str]()

    def __getitem__(self, name: str) -> str:
        value = os.environ[name]
        if name in self._own or name not in _VARIABLES:
            return value
        self._note(f"os.environ['{name}']")
        other: str = _VARIABLES[name](value)
        return other

    def __setitem__(self, name: str, value: str) -> None:
        os.environ[name] = value
        self._own.add(name)

    def __delitem__(self, name: str) -> None:
        del os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)

    def copy(self) -> dict[str, str]:
        """Return all variables as a dict, as `os.environ.copy` does."""
        return dict(self)

    def __or__(self, other: Mapping[str, str]) -> dict[str, str]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, str]) -> dict[str, str]:
        return {**other, **self}

    def __ior__(self, other: Mapping[str, str]) -> Self:
        self.update(other)
        return self
