"""Commands for rollouts that others steer: judge serve."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.extras import require
from cli.help_texts import PlainCommand, PlainGroup
from cli.output import say

app = typer.Typer(
    cls=PlainGroup,
    help="Judge rollouts that Flagger or Argo Rollouts steer.",
    no_args_is_help=True,
)


@app.callback()
def judge() -> None:
    """Judge rollouts that Flagger or Argo Rollouts steer."""


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
    from contract.loader import load_pipeline, state_folder
    from contract.pipelines import find_pipeline
    from contract.schema.serving import DeployConfig
    from contract.tokens import read_token
    from serving.advice.api import advice_api

    token = read_token(token_file, "--token-file")
    config = load_pipeline(find_pipeline(pipeline)).deploy if pipeline else DeployConfig()
    adviser = Adviser(state or state_folder() / "judge", config)
    asked = Prometheus(prometheus) if prometheus else None
    desk = Desk(adviser, asked, lambda: datetime.now(UTC))
    say(f"The judge answers on http://{host}:{port}: stop it with Ctrl-C")
    uvicorn.run(advice_api(desk, token), host=host, port=port, log_level="warning")
