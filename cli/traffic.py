"""Commands that steer the traffic by hand: promote, rollback, teardown."""

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.markup import escape

from cli.options import JsonOption, NameArgument, VersionOption
from cli.output import notes, print_json, say
from contract.errors import NotFoundError

if TYPE_CHECKING:
    from components.agent_client import AgentClient
    from contract.layout import PipelineLayout
    from contract.records.traffic import TrafficPlan

    Change = Callable[[AgentClient, PipelineLayout, str], TrafficPlan]


def promote(name: NameArgument, version: VersionOption = None, is_json: JsonOption = False) -> None:
    """Give all traffic to a kept version; to the one on trial, or the newest, if none is named.

    A canary that is going on ends; its run finds out and stops.

    [bold]Examples[/]

    [cyan]$ slipway promote digits --version 3[/]
    """
    from components.deploy import manual

    def change(client: "AgentClient", layout: "PipelineLayout", author: str) -> "TrafficPlan":
        wanted = version or _on_trial_or_newest(client, layout)
        return manual.promote_version(client, layout, wanted, author)

    _steer(name, change, is_json)


def rollback(
    name: NameArgument, version: VersionOption = None, is_json: JsonOption = False
) -> None:
    """End the trial that is going on, or go back to the last champion, or to a kept version.

    [bold]Examples[/]

    [cyan]$ slipway rollback digits[/]

    [cyan]$ slipway rollback digits --version 2[/]
    """
    from components.deploy import manual

    _steer(name, lambda c, layout, author: manual.rollback(c, layout, version, author), is_json)


def teardown(
    name: NameArgument,
    version: VersionOption = None,
    is_json: JsonOption = False,
) -> None:
    """Take a pipeline out of service; its packages stay. With --version: remove that version.

    [bold]Examples[/]

    [cyan]$ slipway teardown digits[/]

    [cyan]$ slipway teardown digits --version 2[/]
    """
    from components.deploy import manual

    _steer(name, lambda c, layout, author: manual.teardown(c, layout, version, author), is_json)


def _steer(name: str, change: "Change", is_json: bool) -> None:
    """Make a change of the plan, wait until traffic follows it, and show what is in force."""
    from cli.services import artifact_root, open_agent, require_stack
    from contract.layout import PipelineLayout
    from contract.loader import find_pipeline

    find_pipeline(name)
    layout, stack = PipelineLayout(artifact_root(), name), require_stack()
    with (
        open_agent(stack) as client,
        notes.status("Waiting until traffic follows the plan"),
    ):
        plan = change(client, layout, f"{getpass.getuser()} at the command line")
    if plan.champion is not None and stack.tracking_uri:
        _tell_mlflow(stack.tracking_uri, name, plan.champion)
    if is_json:
        print_json(plan.model_dump(mode="json"))
    else:
        say(in_words(plan))


def _tell_mlflow(tracking_uri: str, name: str, champion: int) -> None:
    """Move the alias `champion`; traffic has moved already, so a failure is said, not raised."""
    from mlflow.exceptions import MlflowException

    from components.tracking import point_champion

    try:
        if not point_champion(tracking_uri, name, champion):
            notes.print(f"MLflow has no entry of version {champion}: its alias was not moved")
    except MlflowException as error:
        notes.print(f"MLflow did not move the alias 'champion': {error}")


def in_words(plan: "TrafficPlan") -> str:
    """Return a plan as one line: who answers, and why."""
    arms = [f"{arm.name} version {arm.version} {arm.weight_percent} %" for arm in plan.arms]
    if plan.shadow is not None:
        arms.append(f"shadow version {plan.shadow.version} {plan.shadow.percent} %")
    reason = f" by {plan.author}: {plan.reason}" if plan.author else ""
    return (
        f"[bold]{plan.pipeline}[/]: {', '.join(arms) or 'nothing is in service'} "
        f"(plan {plan.generation}{escape(reason)})"
    )


def _on_trial_or_newest(client: "AgentClient", layout: "PipelineLayout") -> int:
    plan = client.plan(layout.pipeline)
    trial = plan.canary or plan.shadow
    if trial is not None:
        return trial.version
    if not (kept := layout.kept_versions()):
        raise NotFoundError(
            f"{layout.pipeline}: no version is kept; make one with 'slipway run {layout.pipeline}'"
        )
    return kept[-1]
