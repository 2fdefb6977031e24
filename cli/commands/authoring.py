"""Commands for authors of a pipeline: new, check, schema."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.options import JsonOption, NameArgument, SetOption
from cli.output import command_name, data, print_json, say
from cli.scaffold.folder import (
    from_table,
    new_folder,
    own_parents,
    runtime_schema_path,
    schema_path,
    write_schema,
)
from contract.errors import EXIT_USER_ERROR, UserError

if TYPE_CHECKING:
    from contract.schema.pipeline import PipelineConfig

STATES = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[bold red]✗[/]"}


def new(
    name: Annotated[str, typer.Argument(help="Lower case letters, digits and _.")],
    into: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pipeline folders; if not given, the first one of SLIPWAY_PIPELINES, or "
            "configs/pipelines."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Your data: a CSV file with a header line, JSON lines, Parquet, Arrow, ORC, Avro "
            "or TFRecord, by the end of its name.",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --from: the column to predict.")
    ] = None,
) -> None:
    """Make a pipeline folder that runs as it is: with example data, or with your own.

    With --from the features, their types and defaults, the classes and the settings are proposed
    from what the columns hold. Columns that a model cannot learn from are left out, with the
    reason.

    [bold]Examples[/]

    [cyan]$ slipway new churn[/]

    [cyan]$ slipway new churn --from customers.csv --label churned[/]

    [cyan]$ slipway new churn --into ~/pipelines && export SLIPWAY_PIPELINES=~/pipelines[/]
    """
    from cli.scaffold.table_pipeline import data_path
    from contract.loader import load_pipeline
    from contract.pipelines import pipeline_folders

    if (table is None) != (label is None):
        raise UserError("--from and --label: expected both: a file and its column to predict")
    write = from_table(table, label) if table is not None and label is not None else None
    folder = new_folder(name, into, write)
    config = load_pipeline(folder)
    say(f"Created [bold]{escape(str(folder))}[/]{_what(config, table)}.")
    if table is not None and Path(path := data_path(folder, folder, table)).is_absolute():
        say(
            f"It reads {escape(path)} by this absolute path. If the file moves, as on another "
            "machine, change ingest.source.files."
        )
    if name not in pipeline_folders():
        parents = os.pathsep.join([*own_parents(), str(folder.parent)])
        export = escape(f"export SLIPWAY_PIPELINES={shlex.quote(parents)}")
        say(f"Let Slipway find it:  [cyan]{export}[/]")
    called = escape(command_name())
    say(f"Try it:  [cyan]{called} check {name} && {called} run {name} --local[/]")


def _what(config: "PipelineConfig", table: Path | None) -> str:
    """Return what a new pipeline learns from, in words."""
    if table is None:
        return f" ({config.ingest.source.kind} data, to begin with)"
    (head,) = config.heads
    task = config.heads[head].task.replace("_", " ")
    return f": {escape(config.label_column(head))} ({task}) from {len(config.features)} columns"


def check(
    name: NameArgument,
    set_: SetOption = None,
    is_json: JsonOption = False,
) -> None:
    """Check a pipeline before it runs: config, code, data files, disk, services.

    Prints every check; the exit code is 2 if one of them fails.

    [bold]Examples[/]

    [cyan]$ slipway check digits[/]

    [cyan]$ slipway check digits --set train.steps=200 --json[/]
    """
    from cli.checks.preflight import check_pipeline
    from cli.stack.stack_file import run_root
    from contract.loader import parse_overrides
    from contract.pipelines import find_pipeline

    findings = []
    for finding in check_pipeline(find_pipeline(name), parse_overrides(set_ or []), run_root()):
        findings.append(finding)
        if not is_json:
            data.print(f"{STATES[finding.state]} {finding.subject}: {escape(finding.message)}")
    if is_json:
        print_json([finding.as_dict() for finding in findings])
    if any(finding.state == "error" for finding in findings):
        raise typer.Exit(EXIT_USER_ERROR)


def schema(
    output: Annotated[
        Path | None, typer.Option(help="File to write: the schema of pipeline.yaml.")
    ] = None,
    is_runtime: Annotated[
        bool, typer.Option("--runtime", help="Only the schema of runtime files.")
    ] = False,
) -> None:
    """Write the JSON Schemas of pipeline.yaml and runtime files, by which editors check them.

    Without options both are written: configs/pipeline.schema.json and configs/runtime.schema.json.

    [bold]Examples[/]

    [cyan]$ slipway schema[/]

    [cyan]$ slipway schema --output ~/pipelines/pipeline.schema.json[/]

    [cyan]$ slipway schema --runtime --output ~/runtime.schema.json[/]
    """
    if not is_runtime:
        say(f"Wrote {escape(str(write_schema(output or schema_path())))}")
    if is_runtime or output is None:
        written = write_schema(output or runtime_schema_path(), is_runtime=True)
        say(f"Wrote {escape(str(written))}")
