"""What every kind of data source declares: which of its fields are paths, and how new data shows.

The loader, `slipway check` and `contract.freshness` know no kind by name; they read this.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Self, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import model_validator

from contract.schema.section import Section

_SECRET = re.compile(  # the name of a query's value that opens something
    r"(^|[-_.])(sig|signature|token|secret|password|credentials?|(api)?key)$|accesskeyid",
    re.IGNORECASE,
)

DataState = Callable[[Any], Iterable[tuple[str, str]]]


class SourcePath:
    """Marks a field that holds a path or glob, or several: `Annotated[str, SourcePath]`.

    Relative ones are taken from the pipeline's folder.
    """


class SourceSection(Section):
    """Base of every kind of source.

    A kind says how new data shows: `class TableSource(SourceSection, data_state=...)`. The function
    gets the source and yields what it reads from, each with its state; a run starts if one of them
    differs from the last run's. `files_state` and `shipped_state` are two; one that cannot tell
    yields a state that is never the same twice, as `unknown_state` makes it.

    Raises:
        TypeError: On definition of a kind without `data_state`, of one that has the state of its
            files but no path, or of a path that is not text.
    """

    kind: str
    _data_state: ClassVar[DataState]

    def __init_subclass__(cls, *, data_state: DataState, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._data_state = staticmethod(data_state)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name in path_fields(cls):
            if not _is_text(cls.model_fields[name].annotation):
                raise TypeError(f"{cls.__name__}.{name}: a SourcePath is str or tuple[str, ...]")
        if cls._data_state in (files_state, folder_state) and not path_fields(cls):
            raise TypeError(f"{cls.__name__}: has the state of its files, but no field is a path")

    @model_validator(mode="after")
    def _without_credentials(self) -> Self:
        for path in self.paths:
            if "://" not in path:
                continue
            shown = without_credentials(path)
            if "files" not in type(self).model_fields:
                raise ValueError(
                    f"{shown}: kind {self.kind} reads files of this machine only; expected a path"
                )
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths and globs that it reads; none where its data are not files."""
        values = [getattr(self, name) for name in path_fields(type(self))]
        return tuple(path for value in values for path in _texts(value))

    def data_states(self) -> dict[str, str]:
        """Return the state of the data by file, or by what else it reads from."""
        return dict(type(self)._data_state(self))


def without_credentials(uri: str) -> str:
    """Return a URI without its query.

    Raises:
        ValueError: If it holds credentials, which the message does not show.
    """
    url = urlsplit(uri)
    shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
    asked = (name for name, _ in parse_qsl(url.query, keep_blank_values=True))
    if "@" in url.netloc or any(map(_SECRET.search, asked)):
        raise ValueError(
            f"{shown}: the URL holds credentials; leave them to the environment or to a file of "
            "the store's own library"
        )
    return shown


def path_fields(kind: type[SourceSection]) -> tuple[str, ...]:
    """Return the names of a kind's fields that hold paths."""
    return tuple(name for name, field in kind.model_fields.items() if SourcePath in field.metadata)


def kinds_of(source: Any) -> dict[str, type[SourceSection]]:
    """Return the kinds of a union `Annotated[CsvSource | ..., ...]` by their names.

    Raises:
        TypeError: If a member of the union is no `SourceSection`.
    """
    union = get_args(source)[0]
    kinds = {}
    for kind in get_args(union) or (union,):
        if not issubclass(kind, SourceSection):
            raise TypeError(f"{kind.__name__}: a source is a SourceSection, so that new data shows")
        (name,) = get_args(kind.model_fields["kind"].annotation)
        kinds[name] = kind
    return kinds


# --- states -------------------------------------------------------------------------------------


def shipped_state(source: SourceSection) -> Iterator[tuple[str, str]]:
    """Yield the source's own values: a data set that ships with a library does not change."""
    own = [str(value) for name, value in source if name != "kind"]
    yield " ".join(own), "shipped with a library"


def files_state(source: SourceSection) -> Iterator[tuple[str, str]]:
    """Yield each file behind the source's paths, by size and time of change.

    The content is not read: terabytes are not read to learn that nothing is new.
    """
    for path in source.paths:
        yield from _states_of_files(path)


def folder_state(source: SourceSection) -> Iterator[tuple[str, str]]:
    """Yield each folder at or below the source's paths, by its files' number, sizes and times."""
    for path in source.paths:
        if not Path(path).is_dir():
            yield path, "missing"
        for folder, below, names in os.walk(path):
            below.sort()
            found = [Path(folder, name).stat() for name in sorted(names)]
            size, times = sum(f.st_size for f in found), sum(f.st_mtime_ns for f in found)
            yield folder, f"{len(found)} files, {size} bytes, {times}"


def query_state(source: SourceSection) -> Iterator[tuple[str, str]]:
    """Yield the state of the files that a query reads; a database counts as changed each time."""
    if source.paths:
        yield from files_state(source)
    else:
        yield "database", unknown_state("a database does not say whether its rows have changed")


def unknown_state(reason: object) -> str:
    """Return a state that differs each time: what cannot be looked at counts as changed."""
    return f"unknown at {time.time_ns()}: {reason}"


def _states_of_files(place: str) -> Iterator[tuple[str, str]]:
    import fsspec  # only here: it costs each process 0.1 s

    try:
        filesystem, pattern = fsspec.core.url_to_fs(
            place if "://" in place else os.path.normpath(place)
        )
        # A web server has no list of files, and fsspec would read the whole file to look for one.
        is_web = place.startswith(("http://", "https://"))
        paths = [pattern] if is_web else sorted(filesystem.glob(pattern))
        if not is_web and paths == [pattern] and filesystem.isdir(pattern):
            paths = sorted(filesystem.find(pattern))
        for path in paths:
            yield path, _state_of_file(filesystem.info(path))
    except (OSError, ValueError, ImportError) as error:
        yield place, unknown_state(error)
        return
    if not paths:
        yield place, "missing"


def _state_of_file(info: dict[str, Any]) -> str:
    names = ("size", "mtime", "LastModified", "last_modified", "Last-Modified", "ETag")
    marks = (info.get(name) for name in names)
    return " ".join(str(mark) for mark in marks if mark is not None)


# --- inside -------------------------------------------------------------------------------------


def _is_text(annotation: Any) -> bool:
    inner = get_args(annotation)
    if not inner:
        return annotation in (str, NoneType, Ellipsis)
    return all(_is_text(one) for one in inner)


def _texts(value: str | tuple[str, ...] | dict[str, tuple[str, ...]] | None) -> tuple[str, ...]:
    if isinstance(value, dict):
        return tuple(text for texts in value.values() for text in texts)
    return (value,) if isinstance(value, str) else value or ()
