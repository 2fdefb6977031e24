"""From a call to work in the background: a new run, a resumed one, one in Airflow."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli.runs.outcome import Ending
from cli.runs.starting import (
    layout_of,
    new_run_id,
    note_end,
    ready_run,
    require_run,
    start_in_airflow,
    started_as,
)
from contract.errors import EXIT_UNEXPECTED, UserError
from slipway.work import Work, WorkBoard, quiet

if TYPE_CHECKING:
    from contract.command import StepCommand

ENDED_BY_CALLER = Ending(EXIT_UNEXPECTED, "ended by a person")


def started(
    name: str, *, is_local: bool, is_deploying: bool, overrides: Mapping[str, Any]
) -> tuple[str, Work | None]:
    """Start a run; return its id, and its work if it runs here. See `Pipeline.run`."""
    from cli.stack.stack_file import require_stack
    from contract.loader import load_pipeline
    from contract.pipelines import find_pipeline

    if is_deploying and not is_local:
        raise UserError("deploy=True: expected local=True, too: a run in Airflow always deploys")
    load_pipeline(find_pipeline(name), overrides)  # says at once what is wrong with them
    if is_deploying or not is_local:
        require_stack()
    command = _command(name, new_run_id("local" if is_local else "api"), overrides)
    if is_local:
        return command.run_id, local_work(command, is_deploying)
    start_in_airflow(command)
    return command.run_id, None


def resumed(name: str, run_id: str, is_deploying: bool) -> Work:
    """Resume a local run with the code and config that it began with."""
    require_run(name, run_id)
    before = started_as(name, run_id)
    command = _command(name, run_id, {})
    if before.redeploy_version is not None:
        command = replace(command, step="package", redeploy_version=before.redeploy_version)
    return local_work(command, is_deploying or before.is_deploying)


def local_work(command: "StepCommand", is_deploying: bool) -> Work:
    """Run the components here, in the background."""
    ready = ready_run(command, is_deploying)

    def do(board: WorkBoard) -> Ending:
        try:
            return ready.follow(board)
        except KeyboardInterrupt as interrupt:
            note_end(layout_of(command), interrupt)
            return ENDED_BY_CALLER

    stages = ready.local.stages
    return Work(WorkBoard(ready.title, stages, ready.expected, quiet()), do)


def airflow_work(name: str, run_id: str) -> Work:
    """Follow a run in Airflow in the background; cancelling ends the following only."""
    from cli.runs.airflow_api import AirflowClient
    from cli.runs.follow import Follower, expected_seconds, stages_of
    from cli.stack.stack_file import require_stack

    stack, layout = require_stack(), layout_of(_command(name, run_id, {}))
    with AirflowClient.of(stack) as airflow:
        stages = stages_of(airflow.tasks(name))
        expected = expected_seconds(airflow.task_instances(name))

    def do(board: WorkBoard) -> Ending:
        with AirflowClient.of(stack) as airflow:
            return Follower(airflow, name, run_id).follow(board, layout)

    return Work(WorkBoard(f"{name}, run {run_id}", stages, expected, quiet()), do)


def _command(name: str, run_id: str, overrides: Mapping[str, Any]) -> "StepCommand":
    from cli.stack.stack_file import run_root
    from contract.command import StepCommand

    command = StepCommand("ingest", name, run_id, str(run_root()))
    return replace(command, overrides=overrides)
