"""Commands of the judge: judge serve for rollouts that others steer, judge labels."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.extras import require
from cli.help_texts import PlainCommand, PlainGroup
from cli.options import NameArgument, YesOption
from cli.output import say

if TYPE_CHECKING:
    from components.deploy.promote.manual import Move
    from contract.layout import PipelineLayout
    from contract.records.quality import LabelVerdict
    from contract.records.traffic import TrafficPlan

app = typer.Typer(
    cls=PlainGroup,
    help="Judge rollouts that others steer, and versions by labels that come late.",
    no_args_is_help=True,
)


@app.callback()
def judge() -> None:
    """Judge rollouts that others steer, and versions by labels that come late."""


@app.command(cls=PlainCommand)
def serve(
    token_file: Annotated[Path, typer.Option(help="File with the token that askers must send.")],
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Prometheus-compatible server, for queries.")
    ] = "",
    pipeline: Annotated[
        str, typer.Option(metavar="NAME", help="Judge by this pipeline's section 'deploy'.")
    ] = "",
    state: Annotated[
        Path | None, typer.Option(help="Folder of its state; default: judge/ of the state folder.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address on which it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port on which it listens.")] = 8700,
) -> None:
    """Answer Flagger's webhooks and Argo Rollouts' 'web' metrics until Ctrl-C.

    [bold]Examples[/]

    [cyan]$ slipway judge serve --token-file judge.token[/]

    [cyan]$ slipway judge serve --token-file judge.token --prometheus http://prometheus:9090 \\
        --host 0.0.0.0[/]
    """
    require("components", "serving")
    import uvicorn

    from components.deploy.advice.adviser import Adviser
    from components.deploy.advice.desk import Desk
    from components.deploy.advice.prometheus import Prometheus
    from contract.loader import load_pipeline, own_state_folder
    from contract.pipelines import find_pipeline
    from contract.schema.serving import DeployConfig
    from contract.tokens import read_token
    from serving.advice.api import advice_api

    token = read_token(token_file, "--token-file")
    config = load_pipeline(find_pipeline(pipeline)).deploy if pipeline else DeployConfig()
    adviser = Adviser(state or own_state_folder() / "judge", config)
    asked = Prometheus(prometheus) if prometheus else None
    desk = Desk(adviser, asked, lambda: datetime.now(UTC))
    say(f"The judge answers on http://{host}:{port}: stop it with Ctrl-C")
    uvicorn.run(advice_api(desk, token), host=host, port=port, log_level="warning")


@app.command(cls=PlainCommand)
def labels(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV file with request_id, row, the labels, and optionally their probability."
        ),
    ],
    is_agreed: YesOption = False,
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Show the verdict of the labels and change nothing.")
    ] = False,
) -> None:
    """Judge the version in service by labels, and roll it back if they show that it is worse.

    The file holds all labels known so far of what this version and the champion before it have
    answered. Judge it again when it has grown.

    [bold]Examples[/]

    [cyan]$ slipway judge labels census truth.csv --dry-run[/]

    [cyan]$ slipway judge labels census truth.csv --yes[/]
    """
    require("components")
    from cli.commands.traffic import show
    from cli.stack.stack_file import open_agent, served_pipeline
    from components.deploy.labelled.verdict import judge_labels
    from contract.loader import load_pipeline
    from contract.pipelines import find_pipeline

    layout, stack = served_pipeline(name)
    config = load_pipeline(find_pipeline(name))
    with open_agent(stack) as client:
        plan = client.plan(name)
    verdict = judge_labels(layout, config, plan, file, datetime.now(UTC))
    say(f"[bold]{escape(name)}[/]: {escape(verdict.reason)}")
    if not is_dry:
        verdict.write(layout.label_verdict)
    if verdict.decision == "rollback" and not is_dry:
        show(roll_back(verdict, is_agreed), is_json=False)


def roll_back(
    verdict: "LabelVerdict", is_agreed: bool, is_json: bool = False, who: str = ""
) -> "TrafficPlan":
    """Go back to the champion before, as labels call for; `who` decides if no person does."""
    from cli.commands.traffic import moved
    from components.deploy.labelled.verdict import rollback_by_labels

    def decide(plan: "TrafficPlan", layout: "PipelineLayout", author: str) -> "Move":
        return rollback_by_labels(plan, layout, verdict, who or author)

    return moved(verdict.pipeline, decide, is_agreed, is_json)
