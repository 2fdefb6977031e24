"""The operator that runs a component as a process of this machine."""

import contextlib
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from contract.command import StepCommand
from contract.errors import EXIT_DONE, SlipwayError, UserError
from contract.layout import RunLayout
from contract.loader import PROJECT, state_folder
from contract.records import Result
from contract.schema import NotifyConfig
from contract.storage import Attempt, local_path
from operators.environment import component_environment, install_requirements
from operators.processes import StepProcess
from operators.run_request import RunRequest

_LOG_LINE = re.compile(r"^\S+ \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)$")
_KEPT_LINES = 20


@dataclass(frozen=True)
class PipelineRef:
    """What a task knows of its pipeline before the run's frozen config is there."""

    name: str
    root: str
    notify: NotifyConfig = field(default_factory=NotifyConfig)

    def run(self, run_id: str) -> RunLayout:
        """Return where a run of it lies."""
        return RunLayout(local_path(self.root), self.name, run_id)


class ComponentOperator(BaseOperator):
    """Runs one step of a run as `python -m components.<name>`; the task id is the step's name.

    The task succeeds if and only if the step has left a `result.json` of its own. Exit code 2
    (wrong config, code or data) fails it for good; anything else is retried, and the component
    goes on from what it had published.
    """

    ui_color = "#e7f0fa"

    def __init__(self, *, pipeline: PipelineRef, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self._process: StepProcess | None = None

    def build(self, run_id: str, request: RunRequest) -> StepCommand:
        """Return what to run. The run is frozen, so its overrides are in it already."""
        return StepCommand(
            step=self.task_id,
            pipeline=self.pipeline.name,
            run_id=run_id,
            root=self.pipeline.root,
            redeploy_version=request.redeploy_version,
        )

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the step and return its metrics and reasons, and the seconds of its process."""
        run_id = str(context["run_id"])
        with airflow_errors():
            request = RunRequest.of(context["dag_run"].conf)
            run, command = self.pipeline.run(run_id), self.build(run_id, request)
            started = time.monotonic()
            result = self._run(command, run, lambda: self.watch(run, context))
        summary = {
            "metrics": result.metrics,
            "reasons": list(result.reasons),
            "seconds": time.monotonic() - started,
        }
        context["ti"].xcom_push(key="summary", value=summary)
        self.conclude(result, context)
        return summary

    def on_kill(self) -> None:
        """End the whole process group; called on a kill by the user and on a timeout."""
        if self._process is not None:
            self.log.warning("Ending process group %d", self._process.pid)
            self._process.stop()

    def watch(self, run: RunLayout, context: Any) -> None:
        """Look after the running component, about each second; some steps have something to do."""

    def conclude(self, result: Result, context: Any) -> None:
        """Draw the consequences of the step's result; some steps have something to do."""

    def _run(self, command: StepCommand, run: RunLayout, watch: Callable[[], None]) -> Result:
        earlier = Attempt.newest(run.attempts(command.step))
        packages = install_requirements(run.frozen_pipeline, state_folder())
        environment = component_environment(os.environ, packages)
        process = StepProcess(
            command.arguments(), environment, PROJECT, run.process_lock(command.step)
        )
        self._process, worker, complaints = process, os.getppid(), _Complaints()

        def tick() -> None:
            if os.getppid() != worker:
                process.stop()  # the worker is gone: nobody would hear how it ends
            watch()

        for line in process.lines(tick):
            level, text = _parsed(line)
            complaints.note(level, text)
            self.log.log(level, "%s", text)
        return _own_result(command, run, earlier, _Ending(process.wait(), str(complaints)))


class _Complaints:
    """The latest lines that a component logged as errors; of one that logged none, the latest."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._all: deque[str] = deque(maxlen=_KEPT_LINES)

    def note(self, level: int, text: str) -> None:
        self._all.append(text)
        if level >= logging.ERROR:
            self._errors.append(text)

    def __str__(self) -> str:
        return "\n".join(self._errors or self._all)


@dataclass(frozen=True)
class _Ending:
    exit_code: int
    complaints: str


def _own_result(command: StepCommand, run: RunLayout, earlier: int, ending: _Ending) -> Result:
    """Return the record that this attempt left, or that it found complete.

    Args:
        earlier: The newest attempt's number before this one began.

    Raises:
        UserError: If the component ended with exit code 2.
        SlipwayError: If there is no record, or another's.
    """
    newest = Attempt.newest(run.attempts(command.step))
    problem = f"{command.step}: exit code {ending.exit_code}:\n{ending.complaints}"
    try:
        result = Result.read(run.result(command.step))
    except SlipwayError as error:
        missing = problem if ending.exit_code != EXIT_DONE else f"{error}, though it ended well"
        raise _error_of(ending.exit_code)(missing) from error
    has_run = newest > earlier or ending.exit_code == EXIT_DONE
    if not has_run:
        raise _error_of(ending.exit_code)(problem)
    found = (result.pipeline, result.run_id, result.step, result.attempt)
    expected = (command.pipeline, command.run_id, command.step, newest)
    if found != expected:
        raise SlipwayError(
            f"{run.result(command.step)}: not this attempt's: found {found}, expected {expected}"
        )
    return result


def _error_of(exit_code: int) -> type[SlipwayError]:
    return UserError if exit_code == UserError.exit_code else SlipwayError


def _parsed(line: str) -> tuple[int, str]:
    """Split a component's log line into level and text; other output counts as information."""
    match = _LOG_LINE.match(line)
    if match is None:
        return logging.INFO, line
    return logging.getLevelNamesMapping()[match[1]], match[2]


@contextlib.contextmanager
def airflow_errors() -> Iterator[None]:
    """Turn our errors into Airflow's: a user's error fails for good, others are retried."""
    try:
        yield
    except UserError as error:
        raise AirflowFailException(str(error)) from error
    except SlipwayError as error:
        raise AirflowException(str(error)) from error
