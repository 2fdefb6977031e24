"""Whether anything that a run depends on has changed since the last run that came to a verdict."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from contract.errors import SlipwayError
from contract.layout import PipelineLayout, RunLayout
from contract.loader import pipeline_digest
from contract.records.record import Record
from contract.schema.pipeline import PipelineConfig
from contract.schema.section import is_absolute

_SOURCE_KEYS = ("files", "images", "labels", "dataset")


class Fingerprint(Record):
    """What a run starts from: `fingerprint.json`."""

    pipeline: str = Field(description="Digest of the frozen config and code.")
    data: dict[str, str] = Field(description="State by file, or by name of a shipped data set.")
    label_deltas: tuple[str, ...] = Field((), description="File names; they hold digests.")

    def changes_since(self, earlier: "Fingerprint") -> tuple[str, ...]:
        """Say in words what differs; empty if nothing does."""
        changes = []
        if self.pipeline != earlier.pipeline:
            changes.append("the config or the code of the pipeline has changed")
        for path in sorted(self.data.keys() | earlier.data.keys()):
            if self.data.get(path) != earlier.data.get(path):
                changes.append(f"{path} has changed")
        new = set(self.label_deltas) - set(earlier.label_deltas)
        if new:
            changes.append(f"{len(new)} new label deltas")
        elif set(self.label_deltas) != set(earlier.label_deltas):
            changes.append("label deltas were removed")
        return tuple(changes)


@dataclass(frozen=True)
class JudgedRun:
    """A run whose candidate was judged, and what it had started from."""

    folder: str
    fingerprint: Fingerprint


def fingerprint(run: RunLayout, config: PipelineConfig) -> Fingerprint:
    """Return what a frozen run starts from: code, config, label deltas and the state of its data.

    Data files count by size and time of change, not by content: terabytes must not be read to learn
    that nothing is new. A source that cannot be looked at counts as changed each time.
    """
    return Fingerprint(
        pipeline=pipeline_digest(run),
        data=dict(_data_states(config)),
        label_deltas=tuple(sorted(p.name for p in run.of_pipeline.label_deltas.glob("*.csv"))),
    )


def last_judged_run(layout: PipelineLayout) -> JudgedRun | None:
    """Return the run whose `bless` result is the youngest, if any run came that far."""
    results = [RunLayout(layout.root, layout.pipeline, f.name) for f in _folders(layout.runs)]
    judged = [run for run in results if run.result("bless").exists() and run.fingerprint.exists()]
    for run in sorted(judged, key=_judged_at, reverse=True):
        try:
            return JudgedRun(run.run_id, Fingerprint.read(run.fingerprint))
        except SlipwayError:
            continue
    return None


def _folders(path: Path) -> list[Path]:
    return [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []


def _judged_at(run: RunLayout) -> int:
    return run.result("bless").stat().st_mtime_ns


def _data_states(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    sources = [config.ingest.source, config.ingest.test_source]
    for source in (s.model_dump() for s in sources if s is not None):
        for place in _places(source):
            yield from _states(place)


def _places(source: dict[str, Any]) -> Iterator[str]:
    for key in _SOURCE_KEYS:
        value = source.get(key, ())
        yield from (value,) if isinstance(value, str) else value


def _states(place: str) -> Iterator[tuple[str, str]]:
    """Yield each file behind a path or glob with its state; a data set's name is its own state."""
    if not is_absolute(place):
        yield place, "shipped with a library"
        return
    import fsspec  # only here: it costs each process 0.1 s

    try:
        filesystem, pattern = fsspec.core.url_to_fs(
            place if "://" in place else os.path.normpath(place)
        )
        paths = sorted(filesystem.glob(pattern))
        for path in paths:
            yield path, _state(filesystem.info(path))
    except (OSError, ValueError, ImportError) as error:
        yield place, f"unknown at {time.time_ns()}: {error}"
        return
    if not paths:
        yield place, "missing"


def _state(info: dict[str, Any]) -> str:
    marks = (info.get(key) for key in ("size", "mtime", "LastModified", "last_modified", "ETag"))
    return " ".join(str(mark) for mark in marks if mark is not None)
