"""Loads and unloads versions of models, and finds the one that a request means.

Words and order are those of TensorFlow Serving (core/aspired_versions_manager.cc): a version is
aspired as long as its model's policy wants it; a version that is no longer aspired is unloaded when
another one of its model is available, so that the model never stops answering.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import StatusCode

from contract.errors import SlipwayError
from serving.server.grpc.statuses import CallError
from serving.server.requests.errors import SHOWN_CHARACTERS
from serving.standalone.configuration import ModelConfig
from serving.standalone.opening import OpenedModel
from serving.standalone.running import Runner
from serving.standalone.versions import wanted_versions

log = logging.getLogger("slipway")

Opener = Callable[[Path], OpenedModel]
RunnerOf = Callable[[OpenedModel], Runner]
Finder = Callable[[ModelConfig], Mapping[int, Path]]


@dataclass
class Version:
    """A version of a model, from the time it is wanted; it is kept when it has ended.

    Attributes:
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: Why it could not be loaded.
        in_flight: How many requests use it.
    """

    model: str
    number: int
    path: Path
    state: str = "START"
    error: CallError | None = None
    opened: OpenedModel | None = None
    runner: Runner | None = None
    in_flight: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_settled(self) -> bool:
        """Whether loading has ended, well or not."""
        return self.state in ("AVAILABLE", "END")


@dataclass(frozen=True)
class Loading:
    """How versions are loaded.

    Attributes:
        side_by_side: How many at a time, at least 1.
        retries: After the first failure.
        retry_seconds: Between them.
        allows_unknown_labels: Whether a new label may name a version that is not available.
    """

    side_by_side: int = 1
    retries: int = 5
    retry_seconds: float = 60.0
    allows_unknown_labels: bool = False


class Servables:
    """All models of a process. Belongs to one event loop: all methods must be called on it."""

    def __init__(
        self,
        opener: Opener,
        runner_of: RunnerOf,
        loading: Loading,
        finder: Finder = wanted_versions,
    ) -> None:
        """Serve nothing yet; `finder` looks which versions of a model there are to serve."""
        self._opener, self._runner_of, self._loading = opener, runner_of, loading
        self._finder = finder
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._aspired: dict[str, set[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._is_started = False
        self._threads = ThreadPoolExecutor(loading.side_by_side, "load")

    # --- what is served -------------------------------------------------------------------------

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        """Serve these models; returns when new ones are available.

        At the start it waits for the first version of each, as TensorFlow Serving does. Later, a
        new model without any version is an error; it is served when a poll finds one.

        Raises:
            CallError: If a label may not be given, or a new model did not become available.
        """
        async with self._reloading:
            labels = {model.name: self._checked_labels(model) for model in models}
            new = [model.name for model in models if model.name not in self._models]
            self._models = {model.name: model for model in models}
            self._labels = labels
            await self.poll()
        await self._wait_for(new)  # without the lock: loading may take long
        self._is_started = True

    async def poll(self) -> None:
        """Look which versions there are, and load or unload what has changed."""
        loop = asyncio.get_running_loop()
        for name in list(self._versions.keys() | self._models.keys()):
            if (model := self._models.get(name)) is None:
                self._aspire(name, {})
                continue
            try:
                found = await loop.run_in_executor(None, self._finder, model)
            except CallError as error:
                log.error("%s", error)
                continue
            if self._models.get(name) is model:  # it may have been configured anew meanwhile
                if not found:
                    log.warning(
                            "No versions of servable %s found under base path %s. Did you forget "
                            "to name your leaf directory as a number (eg. '/1/')?",
                            name, model.base_path,
                        )  # fmt: skip
                self._aspire(name, found)

    async def close(self) -> None:
        """Unload everything."""
        for task in self._tasks:
            task.cancel()
        for versions in self._versions.values():
            for version in versions.values():
                if version.state == "AVAILABLE":
                    _close(version)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _checked_labels(self, model: ModelConfig) -> dict[str, int]:
        for label, number in model.labels.items():
            known = self._labels.get(model.name, {}).get(label, number)
            is_free = self._loading.allows_unknown_labels and known == number
            if not is_free and self._available(model.name, number) is None:
                raise CallError(
                    StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {model.name}, which is "
                    "not currently available for inference",
                )
        return dict(model.labels)

    async def _wait_for(self, names: Iterable[str]) -> None:
        """Wait until each of these models has an available version, or none that may become it."""
        waiting = set(names)
        while True:
            waiting = {name for name in waiting if not self._is_decided(name)}
            if not waiting:
                break
            self._changed.clear()
            await self._changed.wait()
        if failed := [name for name in names if self._latest(name) is None]:
            reasons = ", ".join(f"{{Latest({n}): {self._why(n)}}}" for n in failed)
            raise CallError(
                StatusCode.UNKNOWN,
                f"{len(failed)} servable(s) did not become available: {reasons}",
            )

    def _is_decided(self, name: str) -> bool:
        if name not in self._models or self._latest(name) is not None:
            return True
        if not (wanted := self._aspired.get(name)):
            return self._is_started
        return all(self._versions[name][number].is_settled for number in wanted)

    def _why(self, name: str) -> str:
        if name in self._models and not self._aspired.get(name):
            return f"no version of it found under base path {self._models[name].base_path}"
        errors = [v.error for v in self._versions.get(name, {}).values() if v.error is not None]
        return str(errors[-1]) if errors else "it is no longer configured"

    # --- loading and unloading ------------------------------------------------------------------

    def _aspire(self, name: str, wanted: Mapping[int, Path]) -> None:
        before, self._aspired[name] = self._aspired.get(name, set()), set(wanted)
        versions = self._versions.setdefault(name, {})
        for number, path in sorted(wanted.items()):
            known = versions.get(number)
            is_new = number not in before or (known is not None and known.error is None)
            if known is None or (known.state == "END" and is_new):
                versions[number] = Version(name, number, path)
                self._begin(self._load(versions[number]))
        self._unload_unwanted(name)
        self._changed.set()

    def _unload_unwanted(self, name: str) -> None:
        wanted, versions = self._aspired[name], self._versions[name]
        is_replaced = any(versions[number].state == "AVAILABLE" for number in wanted)
        for number, version in versions.items():
            if number in wanted:
                continue
            if version.state == "AVAILABLE" and (is_replaced or not wanted):
                self._begin(self._unload(version))

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, version: Version) -> None:
        version.state = "LOADING"
        log.info("loading %s version %d from %s", version.model, version.number, version.path)
        for attempt in range(1 + self._loading.retries):
            if attempt:
                await asyncio.sleep(self._loading.retry_seconds)
            if version.number not in self._aspired[version.model]:
                version.state = "END"
                break
            if await self._tried(version):
                break
        else:
            version.state = "END"
        self._changed.set()
        self._unload_unwanted(version.model)

    async def _tried(self, version: Version) -> bool:
        """Load a version once; return whether that went well."""
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.run_in_executor(self._threads, self._opener, version.path)
        except Exception as error:  # noqa: BLE001 (whatever a model's files make of its loader)
            is_known = isinstance(error, SlipwayError | CallError)
            words = str(error) if is_known else f"{version.path}: {error!r}"
            log.error("%s version %d cannot be loaded: %s", version.model, version.number, words)
            code = error.code if isinstance(error, CallError) else StatusCode.INVALID_ARGUMENT
            version.error = CallError(code, words)
            return False
        version.opened, version.runner = opened, self._runner_of(opened)
        version.error, version.state = None, "AVAILABLE"
        log.info("%s version %d is available", version.model, version.number)
        return True

    async def _unload(self, version: Version) -> None:
        version.state = "UNLOADING"
        log.info("unloading %s version %d", version.model, version.number)
        while version.in_flight:
            version.idle.clear()
            await version.idle.wait()
        await asyncio.get_running_loop().run_in_executor(None, _close, version)
        version.opened = version.runner = None
        version.state = "END"

    # --- what a request means -------------------------------------------------------------------

    @contextmanager
    def use(self, spec: Any) -> Iterator[Version]:
        """Give the version that a ModelSpec means, which stays loaded meanwhile.

        Raises:
            CallError: If it is not served.
        """
        version = self._found(spec)
        version.in_flight += 1
        try:
            yield version
        finally:
            version.in_flight -= 1
            version.idle.set()

    def status(self, spec: Any) -> list[Version]:
        """Return the versions that a ModelSpec means, in whatever state, newest first.

        Raises:
            CallError: If there is none.
        """
        versions = self._versions.get(spec.name, {})
        number = self._number(spec)
        if number is None and not versions:
            raise _not_found(f"Could not find any versions of model {_shown(spec.name)}")
        if number is not None and number not in versions:
            raise _not_found(f"Could not find version {number} of model {_shown(spec.name)}")
        return [versions[n] for n in sorted(versions, reverse=True) if number in (None, n)]

    def knows(self, name: str) -> bool:
        """Tell whether there is, or was, a model of this name."""
        return name in self._versions

    def versions(self) -> list[Version]:
        """Return all versions of all models, in whatever state."""
        return [one for versions in self._versions.values() for one in versions.values()]

    def _found(self, spec: Any) -> Version:
        if not spec.name:
            raise CallError(StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        number = self._number(spec)
        if number is None:
            found, asked = self._latest(spec.name), f"Latest({_shown(spec.name)})"
        else:
            found = self._available(spec.name, number)
            asked = f"Specific({_shown(spec.name)}, {number})"
        if found is None:
            raise _not_found(f"Servable not found for request: {asked}")
        return found

    def _number(self, spec: Any) -> int | None:
        if spec.HasField("version"):
            return int(spec.version.value)
        if not spec.version_label:
            return None
        found = self._labels.get(spec.name, {}).get(spec.version_label)
        if found is None:
            raise CallError(
                StatusCode.INVALID_ARGUMENT,
                f"Unrecognized servable version label: {_shown(spec.version_label)}",
            )
        return found

    def _latest(self, name: str) -> Version | None:
        numbers = [n for n, v in self._versions.get(name, {}).items() if v.state == "AVAILABLE"]
        return self._versions[name][max(numbers)] if numbers else None

    def _available(self, name: str, number: int) -> Version | None:
        found = self._versions.get(name, {}).get(number)
        return found if found is not None and found.state == "AVAILABLE" else None


def _close(version: Version) -> None:
    if version.runner is not None:
        version.runner.close()
    if version.opened is not None:
        version.opened.close()


def _shown(text: str) -> str:
    return str(text[:SHOWN_CHARACTERS])


def _not_found(words: str) -> CallError:
    return CallError(StatusCode.NOT_FOUND, words)
