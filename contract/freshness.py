"""Whether anything that a run depends on has changed since the last run that came to a verdict."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from contract.errors import SlipwayError
from contract.layout import PipelineLayout, RunLayout
from contract.loader import pipeline_digest
from contract.records.record import Record
from contract.schema.pipeline import PipelineConfig


class Fingerprint(Record):
    """What a run starts from: `fingerprint.json`."""

    pipeline: str = Field(description="Digest of the frozen config and code.")
    data: dict[str, str] = Field(description="State by file, or by name of a shipped data set.")
    label_deltas: tuple[str, ...] = Field((), description="File names; they hold digests.")

    def changes_since(self, earlier: "Fingerprint") -> tuple[str, ...]:
        """Return messages on what differs; empty if nothing does."""
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

    Each kind of source says in which state its data are (`contract.schema.source`); one that cannot
    be looked at counts as changed each time.
    """
    return Fingerprint(
        pipeline=pipeline_digest(run),
        data=_data_states(config),
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


def _data_states(config: PipelineConfig) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in config.ingest.sources.values():
        found |= source.data_states()
    return found
