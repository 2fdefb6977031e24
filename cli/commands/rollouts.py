"""The command for a trial in progress: rollout."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.options import JsonOption, NameArgument, YesOption
from cli.output import data, notes, print_json, say
from cli.people import ask, author
from contract.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from cli.rollouts.orders import Order
    from components.runs.agent_client import AgentClient
    from contract.layout import PipelineLayout
    from contract.records.stack import Stack


def rollout(
    name: NameArgument,
    is_following: Annotated[
        bool, typer.Option("--follow", "-f", help="Show it until it is over.")
    ] = False,
    is_pausing: Annotated[
        bool, typer.Option("--pause", help="Keep the trial on its rung; failures still roll back.")
    ] = False,
    is_resuming: Annotated[
        bool, typer.Option("--resume", help="Let a paused trial continue.")
    ] = False,
    is_aborting: Annotated[
        bool, typer.Option("--abort", help="End the trial; stable gets all traffic.")
    ] = False,
    is_approving: Annotated[
        bool, typer.Option("--approve", help="Promote the version that waits for approval.")
    ] = False,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="With --pause: the reason that everyone is shown.")
    ] = "",
    is_agreed: YesOption = False,
    is_json: JsonOption = False,
) -> None:
    """Show the trial of a version, or the last one: weights, counts, each test and its bounds.

    --pause, --resume, --abort and --approve print what they will do, and ask at a terminal. A
    pause survives restarts of every process. With --follow and --json each look is one JSON line.

    [bold]Examples[/]

    [cyan]$ slipway rollout digits --follow[/]

    [cyan]$ slipway rollout digits --pause --reason "waiting for the night's batch job"[/]

    [cyan]$ slipway rollout digits --json | jq '.tests[] | select(.has_agreed == false)'[/]
    """
    from cli.stack.stack_file import open_agent, served_pipeline

    orders = {
        "--pause": is_pausing,
        "--resume": is_resuming,
        "--abort": is_aborting,
        "--approve": is_approving,
    }
    chosen = [option for option, is_chosen in orders.items() if is_chosen]
    _check(chosen, reason, is_following)
    layout, stack = served_pipeline(name)
    with open_agent(stack) as client:
        if chosen:
            _obey(
                _order(chosen[0], client, stack, layout, reason), client, layout, is_agreed, is_json
            )
        elif is_following:
            _follow(client, name, is_json)
        else:
            _show(client, name, is_json)


def _check(chosen: list[str], reason: str, is_following: bool) -> None:
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)}: expected at most one of them")
    if chosen and is_following:
        raise UserError(f"{chosen[0]} and --follow: expected one of them")
    if reason and chosen != ["--pause"]:
        raise UserError("--reason: expected --pause with it")


def _order(
    option: str, client: "AgentClient", stack: "Stack", layout: "PipelineLayout", reason: str
) -> "Order":
    from cli.rollouts import orders

    if option == "--approve":
        return orders.approve(stack, layout.pipeline)
    plan = client.plan(layout.pipeline)
    if option == "--pause":
        return orders.pause(client, plan, author(), reason)
    if option == "--resume":
        return orders.resume(client, plan)
    return orders.abort(client, plan, layout, author())


def _obey(
    order: "Order", client: "AgentClient", layout: "PipelineLayout", is_agreed: bool, is_json: bool
) -> None:
    """Print what will be done, ask at a terminal, do it, and say what came of it."""
    name = escape(layout.pipeline)
    say(f"[bold]{name}[/]: {escape(order.words)}")
    ask(is_agreed)
    with notes.status("Waiting until it is done"):
        done = order.carry_out()
    if is_json:
        print_json(client.plan(layout.pipeline).model_dump(mode="json"))
    else:
        say(f"[bold]{name}[/]: {escape(done)}")


def _follow(client: "AgentClient", name: str, is_json: bool) -> None:
    from cli.rollouts.following import follow

    follow(client, name, is_json)


def _show(client: "AgentClient", name: str, is_json: bool) -> None:
    from cli.rollouts.view import view

    try:
        found = client.rollout(name)
    except NotFoundError as error:
        raise NotFoundError(
            f"{name}: no version has been tried here yet; 'slipway run {name}' tries one, and "
            f"'slipway rollout {name} --follow' waits for it"
        ) from error
    if is_json:
        print_json(found.model_dump(mode="json"))
    else:
        data.print(view(found, datetime.now(UTC)))
