"""Commands for newly labelled rows: labels add, labels list."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.help_texts import PlainCommand, PlainGroup
from cli.options import JsonOption, NameArgument
from cli.output import print_json, say
from cli.people import user_name
from contract.errors import SlipwayError

if TYPE_CHECKING:
    from components.labels.labelled_files import LabelFile
    from contract.layout import PipelineLayout
    from contract.records.labels import LabelsRecord
    from contract.schema.pipeline import PipelineConfig

SHOWN_BAD_ROWS = 10
_SHOWN_IN_JSON = {"added", "corrected", "kept", "duplicates", "bad", "author", "added_at"}

app = typer.Typer(
    cls=PlainGroup,
    help="Add and list newly labelled rows, which start a run that reads them too.",
    no_args_is_help=True,
)


@app.callback()
def labels() -> None:
    """Add and list newly labelled rows, which start a run that reads them too."""


@app.command(cls=PlainCommand)
def add(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV with the labels, and the pipeline's columns or request_id and row.",
        ),
    ],
    is_json: JsonOption = False,
) -> None:
    """Check labelled rows, store the new ones, and announce them: Airflow then starts a run.

    [bold]Examples[/]

    [cyan]$ slipway labels add census answers.csv[/]
    """
    from components.labels.labelled_files import LabelFile

    layout, config = pipeline_of(name)
    add_file(layout, config, LabelFile(file), user_name(), is_json)


@app.command(cls=PlainCommand, name="list")
def list_added(name: NameArgument, is_json: JsonOption = False) -> None:
    """List the files of labelled rows that were added, oldest first.

    [bold]Examples[/]

    [cyan]$ slipway labels list census[/]
    """
    from components.labels.labels import list_labels

    records = list_labels(*pipeline_of(name))
    if is_json:
        print_json([record.model_dump(mode="json", exclude={"bad"}) for record in records])
        return
    for record in records:
        by = f" by {escape(record.author)}" if record.author else ""
        say(
            f"{record.delta}: {record.added_at:%Y-%m-%d %H:%M} UTC{by}: "
            f"{record.added:,} new, {record.corrected:,} corrected"
        )
    if not records:
        say(f"no labelled rows; add some with 'slipway labels add {name} FILE'")


def add_file(
    layout: "PipelineLayout",
    config: "PipelineConfig",
    file: "LabelFile",
    who: str,
    is_json: bool,
) -> None:
    """Add the rows of a file, announce them, and say what became of them."""
    from components.labels.labels import add_labels

    record = add_labels(layout, config, file, who, datetime.now(UTC))
    failure: SlipwayError | None = None
    try:
        announcement = _announce(record) if record.delta else "nothing new to announce"
    except SlipwayError as error:
        failure, announcement = error, "stored, not announced: the next run reads them"
    if is_json:
        shown = record.model_dump(mode="json", include=_SHOWN_IN_JSON)
        delta = layout.label_deltas / record.delta if record.delta else None
        print_json({**shown, "delta": delta, "announcement": announcement})
    else:
        _show(record, announcement)
    if failure is not None:
        raise failure


def pipeline_of(name: str) -> "tuple[PipelineLayout, PipelineConfig]":
    """Return a pipeline's artifacts and its config."""
    from cli.stack.stack_file import artifact_root
    from contract.layout import PipelineLayout
    from contract.loader import load_pipeline
    from contract.pipelines import find_pipeline

    return PipelineLayout(artifact_root(), name), load_pipeline(find_pipeline(name))


def _show(record: "LabelsRecord", announcement: str) -> None:
    say(
        f"Rows: {record.added:,} new, {record.corrected:,} corrected, {record.duplicates:,} known "
        f"already, {len(record.bad):,} refused; {announcement}"
    )
    if record.kept:
        say(f"{record.kept:,} rows keep the label that somebody has added: a consensus differs")
    for bad in record.bad[:SHOWN_BAD_ROWS]:
        say(f"  line {bad.row}: {escape(f'{bad.reason} {bad.found}'.rstrip())}")


def _announce(record: "LabelsRecord") -> str:
    """Post the asset event if Airflow runs, and say what that did."""
    from cli.runs.airflow_api import AirflowClient
    from cli.stack.stack_file import read_stack
    from components.labels.labels import announce

    stack = read_stack()
    if stack is None or not stack.airflow_url:
        return "not announced because Airflow is not running: the next run reads them"
    with AirflowClient.of(stack) as airflow:
        announce(record, airflow.announce)
    return f"announced to Airflow: {stack.airflow_url}/dags/{record.pipeline}"
