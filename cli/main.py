"""The `slipway` command: puts the groups of commands together and prints errors cleanly."""

import os
from typing import Annotated, Any

import typer

from cli.commands import (
    advising,
    asking,
    authoring,
    label_loop,
    label_page,
    labelling,
    loading,
    operating,
    optimizing,
    packaging,
    rollouts,
    running,
    standalone,
    summaries,
    tokens,
    traffic,
    truths,
)
from cli.commands import services as machine
from cli.demo import command as demo
from cli.extras import explained
from cli.help_texts import PlainCommand, PlainGroup
from cli.output import complain
from contract.errors import SlipwayError


class CleanErrors(PlainGroup):
    """A command group whose errors end in one clear message and the error's own exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; with --debug an error keeps its traceback."""
        try:
            return super().invoke(ctx)
        except SlipwayError as error:
            if ctx.params.get("is_debugging"):
                raise
            complain(error)
            raise typer.Exit(error.exit_code) from error
        except ModuleNotFoundError as error:
            if ctx.params.get("is_debugging") or (missing := explained(error)) is None:
                raise
            complain(missing)
            raise typer.Exit(missing.exit_code) from error


app = typer.Typer(
    name="slipway",
    cls=CleanErrors,
    help="From raw data to a model that earns its traffic, in one Airflow DAG.",
    epilog="Start with: [cyan]slipway new churn && slipway run churn --local[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    is_debugging: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    """From raw data to a model that earns its traffic, in one Airflow DAG."""
    if is_debugging:
        os.environ["SLIPWAY_DEBUG"] = "1"


for panel, commands in (
    ("Write a pipeline", (authoring.new, authoring.check, authoring.schema)),
    ("Run it", (running.run, running.status, running.cancel)),
    ("Run it", (summaries.columns, summaries.tensorboard)),
    ("Use it", (operating.predict, operating.score, loading.loadtest, loading.replay)),
    ("Any SavedModel", (optimizing.optimize, packaging.package, packaging.image, packaging.deploy)),
    ("Steer its traffic", (rollouts.rollout, traffic.promote, traffic.rollback, traffic.teardown)),
    ("This machine", (machine.up, machine.down, machine.logins)),
):
    for command in commands:
        app.command(rich_help_panel=panel, cls=PlainCommand)(command)
for of_labels in (
    *(asking.choose, asking.consensus),
    *(label_page.harvest, label_page.gold, label_page.serve, label_page.learn),
    *(label_page.export, truths.truth, label_loop.loop, label_loop.accuracy),
):
    labelling.app.command(cls=PlainCommand)(of_labels)
labelling.app.command(cls=PlainCommand, name="import")(label_page.import_answers)
app.command(
    name="serve-tf",
    rich_help_panel="Any SavedModel",
    cls=PlainCommand,
    context_settings=standalone.PASSING_ON,
)(standalone.serve_tf)
app.add_typer(labelling.app, name="labels", rich_help_panel="Use it")
app.add_typer(demo.app, name="demo", rich_help_panel="This machine")
app.add_typer(tokens.app, name="token", rich_help_panel="This machine")
app.add_typer(advising.app, name="judge", rich_help_panel="Steer its traffic")


if __name__ == "__main__":
    app()
