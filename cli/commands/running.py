"""Commands that run a pipeline and show its runs: run, status."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.extras import require
from cli.options import JsonOption, NameArgument, SetOption
from cli.output import command_name, data, print_json, say
from cli.runs.starting import (
    end_in_airflow,
    layout_of,
    new_run_id,
    note_end,
    ready_run,
    require_run,
    require_version,
    start_in_airflow,
    started_as,
)
from contract.errors import EXIT_UNEXPECTED, UserError
from contract.interrupts import terminated_like_interrupted

if TYPE_CHECKING:
    from cli.runs.outcome import Ending
    from contract.command import StepCommand

SHOWN_RUNS = 5


def run(
    name: NameArgument,
    set_: SetOption = None,
    is_following: Annotated[
        bool, typer.Option("--follow", "-f", help="Show progress until the run has ended.")
    ] = False,
    is_local: Annotated[
        bool, typer.Option("--local", help="Run the components here, without Airflow.")
    ] = False,
    is_deploying: Annotated[
        bool | None,
        typer.Option(
            "--deploy/--no-deploy",
            help="With --local: continue with canary and promotion after the package. Default: no.",
            show_default=False,
        ),
    ] = None,
    redeploy: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="VERSION", help="Deploy this kept version again, as a new one."
        ),
    ] = None,
    resumed: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN", help="Resume an interrupted or failed local run."),
    ] = None,
    continued: Annotated[
        str | None, typer.Option("--continue", hidden=True)
    ] = None,  # the old name of --resume
    is_json: JsonOption = False,
) -> None:
    """Run a pipeline: in Airflow, or with --local as processes of this command.

    A run in Airflow deploys a model that passes. A local run stops after packaging, unless
    --deploy (or --redeploy) is given.

    With --follow and --local the exit code is 0 if the run ended with a result (a refused or
    rolled back model is a result, too), 2 if config, code or data are wrong, 1 otherwise.
    With --resume a run continues with the code and config that it started with: finished steps
    are skipped, and training resumes from its last checkpoint.

    [bold]Examples[/]

    [cyan]$ slipway run digits --follow[/]

    [cyan]$ slipway run digits --local --set train.steps=200[/]

    [cyan]$ slipway run digits --local --deploy[/]

    [cyan]$ slipway run digits --local --resume local-20260131T120000-1f4c[/]

    [cyan]$ slipway run digits --redeploy 3 --set serve.fault_ratio=0.1[/]
    """
    from cli.stack.stack_file import artifact_root, run_root
    from contract.command import StepCommand
    from contract.loader import load_pipeline, parse_overrides
    from contract.pipelines import find_pipeline

    overrides = parse_overrides(set_ or [])
    load_pipeline(find_pipeline(name), overrides)  # reports problems before anything starts
    if redeploy is not None:
        require_version(name, redeploy)
    resumed = resumed or _by_its_old_name(continued)
    if resumed is not None:
        _require_run(name, resumed, is_plain=is_local and redeploy is None and not overrides)
        redeploy, is_deploying = _as_before(name, resumed, is_deploying)
    is_deploying = _is_deploying(is_deploying, is_local, redeploy)
    command = StepCommand(
        step="package" if redeploy else "ingest",
        pipeline=name,
        run_id=resumed or new_run_id("local" if is_local else "cli"),
        root=str(run_root() if is_local and not is_deploying else artifact_root()),
        overrides=overrides,
        redeploy_version=redeploy,
    )
    if not is_local and not is_following:
        trigger(command)
        if is_json:
            print_json({"pipeline": name, "run_id": command.run_id})
        return
    try:
        with terminated_like_interrupted():
            ending = run_locally(command, is_deploying) if is_local else run_in_airflow(command)
    except KeyboardInterrupt as interrupt:
        if is_local:
            note_end(layout_of(command), interrupt)
            say(f"Ended. {_how_to_resume(command)}")
        else:
            say("The run continues in Airflow; end it there, or with 'slipway cancel'.")
        raise
    show_ending(command, ending, is_json)
    if is_local and ending.exit_code == EXIT_UNEXPECTED:
        say(_how_to_resume(command))
    if is_local and not is_deploying and ending.outcome == "packaged":
        say(_how_to_deploy(command, ending))
    raise typer.Exit(ending.exit_code)


def status(
    name: NameArgument,
    is_json: JsonOption = False,
) -> None:
    """Show a pipeline's latest runs, its kept versions, and which versions get traffic.

    With the runtime of a cluster these are of its serving agent, which SLIPWAY_AGENT_URL and
    SLIPWAY_AGENT_TOKEN_FILE name; runs and versions are read from the volume where it is mounted.

    [bold]Examples[/]

    [cyan]$ slipway status digits[/]

    [cyan]$ slipway status digits --json | jq .plan.arms[/]
    """
    from cli.runs.standing import render, standing_in
    from cli.stack.stack_file import shown_pipeline
    from contract.staging.root import open_root

    pipeline, stack = shown_pipeline(name)
    open_root(str(pipeline.root)).fetch_latest(pipeline, SHOWN_RUNS)
    standing = standing_in(pipeline, stack, SHOWN_RUNS)
    if is_json:
        print_json(standing)
        return
    for part in render(standing):
        data.print(part)


def cancel(
    name: NameArgument,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, from 'status'.")],
) -> None:
    """End a run in Airflow; its results stay, and the traffic of a canary returns to stable.

    [bold]Examples[/]

    [cyan]$ slipway cancel digits cli-20260131T120000-1f4c[/]
    """
    from contract.pipelines import find_pipeline

    find_pipeline(name)
    state = end_in_airflow(name, run_id, "'slipway cancel'")
    say(f"Ended run [bold]{escape(run_id)}[/]; it was {state}.")


def run_locally(command: "StepCommand", is_deploying: bool) -> "Ending":
    """Run the components here and show their progress, up to the package or the deployment."""
    require("components", "serving")
    from cli.board import Board

    ready = ready_run(command, is_deploying)
    if not ready.is_tracked:
        say("Not tracked in MLflow: no services are running. 'slipway up' starts them.")
    with Board(ready.title, ready.local.stages, ready.expected) as board:
        return ready.follow(board)


def trigger(command: "StepCommand") -> None:
    """Start the run in Airflow."""
    say(f"Started run [bold]{command.run_id}[/]: {start_in_airflow(command)}")


def run_in_airflow(
    command: "StepCommand", typical_seconds: Mapping[str, float] | None = None
) -> "Ending":
    """Start the run in Airflow and follow it. An interrupt stops only the following.

    Args:
        typical_seconds: Expected seconds of each step, for the forecast, until there are runs.
    """
    from cli.runs.airflow_api import AirflowClient
    from cli.runs.follow import Follower
    from cli.stack.stack_file import require_stack

    trigger(command)
    with AirflowClient.of(require_stack()) as airflow:
        follower = Follower(airflow, command.pipeline, command.run_id)
        title = f"{command.pipeline}, run {command.run_id}"
        with follower.board(title, typical_seconds or {}) as board:
            return follower.follow(board, layout_of(command))


def show_ending(command: "StepCommand", ending: "Ending", is_json: bool) -> None:
    """Say how a run ended: its outcome and reasons, or the end of the failed step's log."""
    from cli.runs.outcome import figures

    if is_json:
        print_json(
            {
                "pipeline": command.pipeline,
                "run_id": command.run_id,
                "outcome": ending.outcome,
                "exit_code": ending.exit_code,
                "reasons": ending.reasons,
                "version": ending.version,
                "failed_step": ending.failed_step,
                "log": ending.log,
                "metrics": figures(layout_of(command)),
            }
        )
        return
    color = "bold red" if ending.outcome == "failed" else "bold"
    where = f" in '{ending.failed_step}'" if ending.failed_step else ""
    say(f"[{color}]{ending.outcome}[/]{where}  (run {command.run_id})")
    _show_lines(ending.reasons)
    _show_lines(ending.log)


def _show_lines(lines: Sequence[str]) -> None:
    for line in lines:
        say(f"  {escape(line)}")


def _is_deploying(wanted: bool | None, is_local: bool, redeploy: int | None) -> bool:
    """Tell whether the run continues with canary and promotion.

    Raises:
        UserError: If --deploy or --no-deploy is given for a run in Airflow, which always deploys.
        ConfigError: If a local run should deploy, and its root is in an object store.
        ServiceUnavailableError: If a local run should deploy, and no services are running.
    """
    from cli.stack.stack_file import artifact_root, require_stack

    if not is_local:
        if wanted is not None:
            raise UserError(
                "--deploy and --no-deploy: expected --local: a run in Airflow always continues "
                "with canary and promotion"
            )
        return True
    is_deploying = redeploy is not None if wanted is None else wanted
    if is_deploying:
        artifact_root()
        require_stack()
    return is_deploying


def _by_its_old_name(continued: str | None) -> str | None:
    if continued is not None:
        say("--continue: deprecated name; write '--resume' instead")
    return continued


def _as_before(name: str, run_id: str, is_deploying: bool | None) -> tuple[int | None, bool]:
    """Return which version a run deploys again, and whether it deploys: as it was started."""
    before = started_as(name, run_id)
    return before.redeploy_version, before.is_deploying if is_deploying is None else is_deploying


def _how_to_resume(command: "StepCommand") -> str:
    return f"Resume it: {command_name()} run {command.pipeline} --local --resume {command.run_id}"


def _how_to_deploy(command: "StepCommand", ending: "Ending") -> str:
    from cli.stack.stack_file import read_stack
    from contract.staging.root import open_root

    packages = open_root(command.root).packages(command.pipeline)
    if "://" in packages:
        return f"Version {ending.version} is packaged: {packages}/{ending.version}"
    first = "" if read_stack() is not None else f"{command_name()} up && "
    if command.redeploy_version is not None:
        words = f"run {command.pipeline} --local --redeploy {command.redeploy_version}"
    else:
        words = f"run {command.pipeline} --local --resume {command.run_id} --deploy"
    return (
        f"Version {ending.version} is packaged, not deployed: canary and promotion were left out. "
        f"Deploy it: {first}{command_name()} {words}"
    )


def _require_run(name: str, run_id: str, is_plain: bool) -> None:
    if not is_plain:
        raise UserError(
            "--resume: expected --local, and neither --set nor --redeploy: a run continues with "
            "the config that it started with. For a run in Airflow, clear the failed task"
        )
    require_run(name, run_id)
