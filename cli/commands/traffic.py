"""Commands that change the traffic: promote, rollback, teardown."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.options import JsonOption, NameArgument, VersionOption, YesOption
from cli.output import notes, print_json, say
from cli.people import ask, author
from contract.errors import UserError

if TYPE_CHECKING:
    from components.deploy.promote.manual import Move
    from contract.layout import PipelineLayout
    from contract.records.stack import Stack
    from contract.records.traffic import TrafficPlan

    Decide = Callable[[TrafficPlan, PipelineLayout, str], Move]


def promote(
    name: NameArgument,
    version: VersionOption = None,
    is_forced: Annotated[
        bool,
        typer.Option("--force", help="With --version: promote it even if it did not pass."),
    ] = False,
    is_agreed: YesOption = False,
    is_json: JsonOption = False,
) -> None:
    """Give all traffic to a version: without --version the newest one that passed its trial.

    A version that was refused, rolled back, interrupted in its trial or never tried has to be
    named and forced. A canary in progress ends, and its run stops.

    [bold]Examples[/]

    [cyan]$ slipway promote digits[/]

    [cyan]$ slipway promote digits --version 3 --force[/]
    """
    from components.deploy.promote import manual

    if is_forced and version is None:
        raise UserError("--force: expected --version too: name the version to force")

    def decide(plan: "TrafficPlan", layout: "PipelineLayout", author: str) -> "Move":
        return manual.promotion(plan, layout, version, is_forced, author)

    make_move(name, decide, is_agreed, is_json)


def rollback(
    name: NameArgument,
    version: VersionOption = None,
    is_agreed: YesOption = False,
    is_json: JsonOption = False,
) -> None:
    """End the trial in progress, or return to the last champion that was not rolled back.

    The version that loses its traffic is marked bad: no later roll-back returns to it, and only
    'slipway promote NAME --version N --force' puts it in service again.

    [bold]Examples[/]

    [cyan]$ slipway rollback digits[/]

    [cyan]$ slipway rollback digits --version 2[/]
    """
    from components.deploy.promote import manual

    def decide(plan: "TrafficPlan", layout: "PipelineLayout", author: str) -> "Move":
        return manual.rollback(plan, layout, version, author)

    make_move(name, decide, is_agreed, is_json)


def teardown(
    name: NameArgument,
    version: VersionOption = None,
    is_json: JsonOption = False,
) -> None:
    """Take a pipeline out of service and keep its packages; with --version: remove that version.

    [bold]Examples[/]

    [cyan]$ slipway teardown digits[/]

    [cyan]$ slipway teardown digits --version 2[/]
    """
    from cli.stack.stack_file import open_agent, served_pipeline
    from components.deploy.promote import manual

    layout, stack = served_pipeline(name)
    with open_agent(stack) as client, notes.status("Waiting until traffic follows the plan"):
        plan = manual.teardown(client, layout, version, author())
    _point_alias(stack, plan)
    show(plan, is_json)


def make_move(name: str, decide: "Decide", is_agreed: bool, is_json: bool) -> None:
    """Make a move as `moved` does, and show what is in force."""
    show(moved(name, decide, is_agreed, is_json), is_json)


def moved(name: str, decide: "Decide", is_agreed: bool, is_json: bool) -> "TrafficPlan":
    """Decide on a change, tell it, ask at a terminal, apply it, and return what is in force.

    Where the output is JSON the words go to standard error.
    """
    from cli.stack.stack_file import open_agent, served_pipeline
    from components.deploy.promote.manual import carry_out

    layout, stack = served_pipeline(name)
    tell = notes.print if is_json else say
    with open_agent(stack) as client:
        move = decide(client.plan(name), layout, author())
        tell(f"[bold]{escape(name)}[/]: {escape(move.words)}")
        if move.warning:
            tell(f"[yellow]warning:[/] {escape(move.warning)}")
        ask(is_agreed)
        with notes.status("Waiting until traffic follows the plan"):
            plan = carry_out(client, move)
    _point_alias(stack, plan)
    return plan


def show(plan: "TrafficPlan", is_json: bool) -> None:
    """Print what is in force."""
    from cli.runs.standing import in_words

    if is_json:
        print_json(plan.model_dump(mode="json"))
    else:
        say(in_words(plan))


def _point_alias(stack: "Stack", plan: "TrafficPlan") -> None:
    """Move MLflow's alias to the champion."""
    from cli.stack.stack_file import tracking_environment

    if plan.champion is not None and stack.tracking_uri:
        os.environ |= tracking_environment(stack)
        _tell_mlflow(stack.tracking_uri, plan.pipeline, plan.champion)


def _tell_mlflow(tracking_uri: str, name: str, champion: int) -> None:
    """Move the alias `champion`; traffic has moved already, so a failure is printed, not raised."""
    from mlflow.exceptions import MlflowException

    from components.runs.tracking import point_champion

    try:
        if not point_champion(tracking_uri, name, champion):
            notes.print(f"MLflow has no entry for version {champion}: its alias was not moved")
    except MlflowException as error:
        notes.print(f"MLflow did not move the alias 'champion': {error}")
