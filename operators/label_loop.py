"""The operators of the label loop: a turn's parts as processes, and the event that starts a run."""

import csv
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from contract.errors import EXIT_DONE, EXIT_USER_ERROR
from contract.layout import PipelineLayout, RunLayout
from contract.loader import state_folder
from contract.places import CODE_FOLDER
from contract.programs import program_command
from contract.records.label_loop import LabelLoopRecord
from contract.records.labels import LabelsRecord
from contract.storage import local_path
from launching.environment import component_environment
from launching.log_lines import Complaints, parsed
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import socket_of
from operators.component import PipelineRef, airflow_errors
from operators.run_note import write_note

# An event by hand names no delta: those before it are looked at, too.
_EVENTS = 20


class LabelLoopOperator(BaseOperator):
    """Runs a part of a turn, `slipway labels loop NAME --only PART`; the task id is the part.

    A part that was killed may run again: it chooses no row and stores no label twice.
    """

    ui_color = "#f4efe0"

    def __init__(self, *, pipeline: PipelineRef, is_warm: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline, self.is_warm = pipeline, is_warm
        self._process: StepProcess | None = None

    def build(self) -> tuple[str, ...]:
        """Return what to run."""
        part = ("--only", self.task_id)
        return (*program_command("slipway"), "labels", "loop", self.pipeline.name, *part)

    def execute(self, context: Any) -> None:
        """Run the part; its words go to the log."""
        layout = PipelineLayout(local_path(self.pipeline.root), self.pipeline.name)
        start = ProcessStart(self.build(), component_environment(os.environ, None), CODE_FOLDER)
        complaints, worker = Complaints(), os.getppid()
        warm_parent = socket_of(state_folder()) if self.is_warm else None
        with airflow_errors():
            process = StepProcess(start, layout.label_loop_lock(self.task_id), warm_parent)
        self._process = process

        def tick() -> None:
            if os.getppid() != worker:
                process.stop()  # the worker is gone: nobody would hear how it ends

        for line in process.lines(tick):
            level, text = parsed(line)
            complaints.note(level, text)
            self.log.log(level, "%s", text)
        code = process.wait()
        if code != EXIT_DONE:
            error = AirflowFailException if code == EXIT_USER_ERROR else AirflowException
            raise error(f"labels loop --only {self.task_id} ended with {code}; {complaints}")
        self.conclude(layout, context)

    def conclude(self, layout: PipelineLayout, context: Any) -> None:
        """Draw the consequences of the part; learning has something to do."""

    def on_kill(self) -> None:
        """End the process group; called on a kill by the user and on a timeout."""
        if self._process is not None:
            self._process.stop()


class LearnOperator(LabelLoopOperator):
    """Stores what people have agreed on, and writes into the run's note what they said."""

    def __init__(self, *, min_labels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_labels = min_labels

    def conclude(self, layout: PipelineLayout, context: Any) -> None:
        with airflow_errors():
            record = LabelLoopRecord.read(layout.label_loop)
        run = RunLayout(layout.root, self.dag_id, str(context["run_id"]))
        outcome = f"{record.added:,} new labels" if record.delta else "no run"
        write_note(run, outcome, record.in_words(self.min_labels))


class AnnounceLabelsOperator(BaseOperator):
    """Emits the asset event of labels that no event has announced; skips if there are none.

    The last events themselves say which labels are announced: Airflow stores one together with the
    success of this task. So none is forgotten or announced twice, whenever the task is killed.
    Labels that 'slipway labels add' has stored while Airflow was down are announced too.
    """

    ui_color = "#f4efe0"

    def __init__(self, *, pipeline: PipelineRef, labels: Asset, **kwargs: Any) -> None:
        # an alias emits only what is put into it, a plain outlet on every success
        self.labels, self.alias = labels, AssetAlias(f"{labels.uri}/learned")
        super().__init__(inlets=[labels], outlets=[self.alias], **kwargs)
        self.pipeline = pipeline

    def execute(self, context: Any) -> dict[str, Any]:
        """Emit one event for all labels that are new."""
        events = context["inlet_events"][self.labels].ascending(False).limit(_EVENTS)
        announced = max((_number(event.extra.get("delta", "")) for event in events), default=0)
        layout = PipelineLayout(local_path(self.pipeline.root), self.pipeline.name)
        with airflow_errors():
            new = new_labels(layout, announced)
        if not new:
            raise AirflowSkipException("no new labels: nothing to start a run for")
        extra = {"rows": sum(record.event["rows"] for record in new), "delta": new[-1].delta}
        context["outlet_events"][self.alias].add(self.labels, extra=extra)
        self.log.info("Announced %d newly labelled rows in %d deltas", extra["rows"], len(new))
        return extra


def new_labels(layout: PipelineLayout, announced: int) -> list[LabelsRecord]:
    """Return the records of the deltas that came after an announced one, oldest first.

    Args:
        layout: Of the pipeline.
        announced: Number of the newest delta that an event has named; 0: none.
    """
    deltas = [path for path in layout.label_deltas.glob("*.csv") if _number(path.name) > announced]
    ordered = sorted(deltas, key=lambda path: _number(path.name))
    return [_record_of(layout, delta) for delta in ordered]


def _record_of(layout: PipelineLayout, delta: Path) -> LabelsRecord:
    """Return a delta's record; one of 0.1.0 has none, so that its rows are counted."""
    path = delta.with_suffix(".json")
    if path.exists():
        return LabelsRecord.read(path)
    with delta.open(encoding="utf-8", newline="") as file:
        rows = max(0, sum(1 for _ in csv.reader(file)) - 1)  # the first is the header
    return LabelsRecord(
        pipeline=layout.pipeline,
        delta=delta.name,
        added=rows,
        corrected=0,
        duplicates=0,
        added_at=datetime.fromtimestamp(delta.stat().st_mtime, UTC),
    )


def _number(delta: str) -> int:
    """Return a delta's number; 0 of a name that is none, as an event by hand may have."""
    number = str(delta).partition("-")[0]
    return int(number) if number.isdecimal() else 0
