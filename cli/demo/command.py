"""The command `slipway demo`."""

from typing import Annotated

import typer

from cli.extras import require
from cli.help_texts import PlainCommand, PlainGroup

app = typer.Typer(
    cls=PlainGroup,
    help="Demonstrations on this machine, in real Airflow; they leave nothing behind.",
    no_args_is_help=True,
)


@app.callback()
def demo() -> None:
    """Demonstrations on this machine, in real Airflow; they leave nothing behind."""


@app.command(cls=PlainCommand)
def labels(
    loops: Annotated[int, typer.Option(min=1, max=20, help="How often people are asked.")] = 3,
) -> None:
    """Let a model of 150 rows learn from people: it asks about rows that it is unsure of.

    Five programs answer as people do over HTTP; one of them guesses, one is always wrong.

    [bold]Examples[/]

    [cyan]$ slipway demo labels[/]
    """
    require("components", "serving", "airflow")
    from cli.demo.label_loop import main

    raise typer.Exit(main(loops))
