"""How a run begins and is resumed, from the command line, a notebook or the demo.

Nothing here prints: what a run shows while it runs is the caller's board.
"""

import os
import secrets
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.people import user_name
from contract.addresses import TRACKING_URI
from contract.errors import EXIT_DONE, NotFoundError, SlipwayError, UserError
from contract.interrupts import Terminated
from contract.layout import PipelineLayout, RunLayout
from contract.storage import local_path

if TYPE_CHECKING:
    from cli.board import Board
    from cli.runs.local_run import LocalRun
    from cli.runs.outcome import Ending
    from contract.command import StepCommand
    from contract.records.record import StartedAs

# A notebook's kernel sets the first, which its packages alone can draw with, and importing
# tf.Transform the other. With either of them no component could be forked from a warm parent.
_SET_BY_LIBRARIES = frozenset({"MPLBACKEND", "TF_USE_LEGACY_KERAS"})


def new_run_id(origin: str) -> str:
    """Return a unique run id: origin, time (UTC), random digits."""
    return f"{origin}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def layout_of(command: "StepCommand") -> RunLayout:
    """Return where the run's records are."""
    return RunLayout(local_path(command.root), command.pipeline, command.run_id)


@dataclass(frozen=True)
class ReadyRun:
    """A local run whose packages are installed; `expected` is seconds by step, of earlier runs."""

    local: "LocalRun"
    expected: Mapping[str, float]
    home: Path
    is_warm: bool

    @property
    def title(self) -> str:
        """What a board is called."""
        return f"{self.local.command.pipeline}, run {self.local.command.run_id}"

    @property
    def is_tracked(self) -> bool:
        """Whether its figures go to an MLflow: that of the services, or the user's own."""
        return bool(self.local.environment.get(TRACKING_URI))

    def follow(self, board: "Board") -> "Ending":
        """Run all steps, until one fails or says no.

        A KeyboardInterrupt, also one that `board.update` raises, ends the running processes.
        """
        from cli.runs.local_run import warm_parent
        from contract.staging.root import open_root

        with warm_parent(self.home, self.local) if self.is_warm else nullcontext() as parent:
            ending = replace(self.local, warm_parent=parent).follow(board)
        if ending.exit_code == EXIT_DONE:
            open_root(self.local.command.root).clean(self.local.layout)
        return ending


def ready_run(command: "StepCommand", is_deploying: bool) -> ReadyRun:
    """Prepare a run of the components here: install the pipeline's packages, remove old logs."""
    from cli.runs.local_run import LocalRun, expected_seconds
    from cli.stack.stack_file import read_stack, stack_environment
    from contract.loader import load_pipeline, own_state_folder
    from contract.own_packages import install_requirements
    from contract.pipelines import find_pipeline
    from contract.records.record import StartedAs
    from contract.run_rights import check_sources
    from contract.staging.root import open_root
    from launching.environment import (
        component_environment,
        current_runtime,
        may_fork,
        starts_warm,
    )
    from launching.housekeeping import local_logs, remove_old

    open_root(command.root).verify()
    stack, home, folder = read_stack(), own_state_folder(), find_pipeline(command.pipeline)
    runtime = current_runtime()
    packages = install_requirements(folder, home)
    config = load_pipeline(folder, command.overrides)
    check_sources(config, folder, runtime.sources)
    remove_old(home, command.pipeline, config.retention.log_days)
    local = LocalRun(
        command,
        logs=local_logs(home, command.pipeline) / command.run_id,
        environment={
            **component_environment(_own_environment(), packages),
            **stack_environment(stack),
        },
        is_deploying=is_deploying,
        job=runtime.job,
    )
    local.layout.ended_by.unlink(missing_ok=True)
    open_root(command.root).share_end(local.layout)
    StartedAs(redeploy_version=command.redeploy_version, is_deploying=is_deploying).write(
        local.layout.started_as
    )
    is_warm = may_fork(starts_warm(runtime), packages)
    return ReadyRun(local, expected_seconds(local.layout.of_pipeline), home, is_warm)


def _own_environment() -> dict[str, str]:
    """Return this process's variables, without those that its libraries have set for themselves."""
    return {name: value for name, value in os.environ.items() if name not in _SET_BY_LIBRARIES}


def start_in_airflow(command: "StepCommand") -> str:
    """Start the run in Airflow and return its page there.

    Raises:
        ServiceUnavailableError: If no services are up, or Airflow has no DAG of the pipeline.
    """
    from cli.runs.airflow_api import AirflowClient
    from cli.runs.follow import find_dag
    from cli.stack.stack_file import require_stack
    from contract.run_rights import check_overrides
    from launching.environment import current_runtime

    check_overrides(command.overrides, current_runtime().runs.overrides)
    stack = require_stack()
    conf: dict[str, Any] = {"overrides": dict(command.overrides)}
    if command.redeploy_version is not None:
        conf["redeploy_version"] = command.redeploy_version
    with AirflowClient.of(stack) as airflow:
        find_dag(airflow, command.pipeline)
        airflow.unpause(command.pipeline)
        airflow.trigger(command.pipeline, command.run_id, conf)
    return f"{stack.airflow_url}/dags/{command.pipeline}/runs/{command.run_id}"


def end_in_airflow(name: str, run_id: str, how: str) -> str:
    """End a run in Airflow and return the state that it was in.

    Args:
        name: The pipeline's name.
        run_id: The run's id.
        how: What ended it, for its note: a command, or a call.

    Raises:
        NotFoundError: If Airflow has no such run.
        UserError: If it is a local run, or has ended already.
    """
    from cli.runs.airflow_api import ENDED_NOTE, AirflowClient
    from cli.stack.stack_file import require_stack

    if run_id.startswith("local-"):
        raise UserError(f"{run_id}: a local run ends with Ctrl-C in the terminal where it runs")
    with AirflowClient.of(require_stack()) as airflow:
        try:
            state = str(airflow.run(name, run_id)["state"])
        except NotFoundError as error:
            raise NotFoundError(
                f"{name}: Airflow has no run '{run_id}'; 'slipway status {name}' lists its runs"
            ) from error
        if state in ("success", "failed"):
            raise UserError(f"{name}: run {run_id} has ended already ({state})")
        airflow.end(name, run_id, f"{ENDED_NOTE} ({user_name()}, {how})")
    return state


def note_end(run: RunLayout, interrupt: KeyboardInterrupt) -> None:
    """Write a record of who ended a local run; `slipway status` shows it."""
    from contract.records.record import EndedBy
    from contract.staging.root import open_root

    is_person = not isinstance(interrupt, Terminated)
    who = user_name() if is_person else str(interrupt)
    if run.path.is_dir():
        EndedBy(who=who, is_person=is_person, ended_at=datetime.now(UTC)).write(run.ended_by)
        with suppress(SlipwayError):  # the store is away: it is known here
            open_root(str(run.root)).share_end(run)


def require_run(name: str, run_id: str) -> None:
    """Raise UserError unless the run has begun here and can be resumed."""
    from cli.stack.stack_file import run_root
    from contract.staging.root import open_root

    root = run_root()
    run = RunLayout(root, name, run_id)
    open_root(str(root)).fetch(run)
    if not run.frozen_pipeline.is_dir():
        local = sorted(run.name for run in PipelineLayout(root, name).runs.glob("local-*"))
        known = ", ".join(local[-5:]) or "none"
        raise UserError(f"{name}: local run {run_id} not found (latest: {known})")


def started_as(name: str, run_id: str) -> "StartedAs":
    """Return what a local run was started as; a run of an older Slipway: a whole one."""
    from cli.stack.stack_file import run_root
    from contract.records.record import StartedAs

    try:
        return StartedAs.read(RunLayout(run_root(), name, run_id).started_as)
    except NotFoundError:
        return StartedAs(is_deploying=False)


def require_version(name: str, version: int) -> None:
    """Raise UserError unless the version is kept."""
    from cli.stack.stack_file import artifact_root

    PipelineLayout(Path(artifact_root()), name).check_kept(version)
