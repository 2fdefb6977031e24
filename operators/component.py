"""The operator that runs a component as a process of this machine."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from contract.command import StepCommand
from contract.errors import SlipwayError, UserError
from contract.layout import RunLayout
from contract.loader import state_folder
from contract.own_packages import install_requirements
from contract.places import CODE_FOLDER
from contract.records.record import Result
from contract.schema.cluster import ProcessJobConfig
from contract.schema.pipeline import NotifyConfig
from contract.storage import Attempt, local_path
from launching.environment import component_environment, may_fork
from launching.log_lines import Complaints, parsed
from launching.own_result import Ending, own_result
from launching.processes.process_start import ProcessStart
from launching.processes.role_processes import command_line
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import socket_of
from operators.run_request import RunRequest


@dataclass(frozen=True)
class PipelineRef:
    """What a task knows of its pipeline before the run's frozen config is there."""

    name: str
    root: str
    notify: NotifyConfig = field(default_factory=NotifyConfig)

    def run(self, run_id: str) -> RunLayout:
        """Return where a run of it lies."""
        return RunLayout(local_path(self.root), self.name, run_id)

    def command(self, step: str, run_id: str, request: RunRequest) -> StepCommand:
        """Return what to run. The run is frozen, so its overrides are in it already."""
        return StepCommand(
            step=step,
            pipeline=self.name,
            run_id=run_id,
            root=self.root,
            redeploy_version=request.redeploy_version,
        )


class ComponentOperator(BaseOperator):
    """Runs one step of a run as `python -m components.<name>`; the task id is the step's name.

    The task succeeds if and only if the step has written its own `result.json`. Exit code 2
    (wrong config, code or data) fails it for good; anything else is retried, and the component
    continues from what it had published.
    """

    ui_color = "#e7f0fa"

    def __init__(
        self,
        *,
        pipeline: PipelineRef,
        job: ProcessJobConfig | None = None,
        is_warm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.job = job or ProcessJobConfig()
        self.is_warm = is_warm
        self._process: StepProcess | None = None

    def build(self, run_id: str, request: RunRequest) -> StepCommand:
        """Return what to run."""
        return self.pipeline.command(self.task_id, run_id, request)

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
        """End the whole process group; called on a kill by the user and on a timeout.

        Airflow gives this five seconds; the group's guard then gives it the job's grace.
        """
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
        start = ProcessStart(
            tuple(command_line(command, run, self.job)),
            component_environment(os.environ, packages),
            CODE_FOLDER,
            self.job.grace_seconds,
        )
        is_warm = may_fork(self.is_warm, packages)
        warm_parent = socket_of(state_folder()) if is_warm else None
        process = StepProcess(start, run.process_lock(command.step), warm_parent)
        self._process, worker, complaints = process, os.getppid(), Complaints()

        def tick() -> None:
            if os.getppid() != worker:
                process.stop()  # the worker is gone: nobody would hear how it ends
            watch()

        for line in process.lines(tick):
            level, text = parsed(line)
            complaints.note(level, text)
            self.log.log(level, "%s", text)
        return own_result(command, run, earlier, Ending(process.wait(), str(complaints)))


@contextlib.contextmanager
def airflow_errors() -> Iterator[None]:
    """Turn our errors into Airflow's: a user's error fails for good, others are retried."""
    try:
        yield
    except UserError as error:
        raise AirflowFailException(str(error)) from error
    except SlipwayError as error:
        raise AirflowException(str(error)) from error
