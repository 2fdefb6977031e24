"""Commands that use a pipeline's model: predict, score."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli.options import JsonOption, NameArgument, VersionOption
from cli.output import data, notes, print_json, quietly, say

if TYPE_CHECKING:
    from contract.schema.data import HeadConfig


def predict(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Option("--file", help='JSON: a list of rows, or {"instances": [...]}; - is stdin.'),
    ],
    version: VersionOption = None,
    is_json: JsonOption = False,
) -> None:
    """Request predictions from the version in service; print class and scores of each row.

    [bold]Examples[/]

    [cyan]$ slipway predict digits --file rows.json[/]

    [cyan]$ slipway predict digits --file rows.json --version 3 --json[/]
    """
    from cli.requests import data_plane
    from cli.requests.rows import rows_from_file
    from cli.stack.stack_file import require_stack

    rows = rows_from_file(file)
    answer = data_plane.predict(require_stack(), name, rows, version)
    heads = heads_of(name, answer.version)
    named = [data_plane.named(prediction, heads) for prediction in answer.predictions]
    if is_json:
        print_json({"version": answer.version, "predictions": named})
        return
    for number, row in enumerate(named, start=1):  # as 'score' counts them
        words = "; ".join(_in_words(row)) if heads else escape(json.dumps(row))
        data.print(f"row {number}: {words}   (version {answer.version})")


def heads_of(name: str, version: int) -> "dict[str, HeadConfig]":
    """Return the heads of a version, from its package."""
    from cli.stack.stack_file import artifact_root
    from contract.layout import PipelineLayout
    from contract.records.package import PackageManifest

    layout = PipelineLayout(artifact_root(), name)
    return PackageManifest.read(layout.package_manifest(version)).heads


def _in_words(row: dict[str, dict[str, Any]]) -> Iterator[str]:
    for head, found in row.items():
        if "value" in found:
            yield f"{head} [bold]{found['value']:.6g}[/]"
            continue
        ranked = sorted(found["scores"].items(), key=lambda item: -item[1])
        scores = ", ".join(f"{escape(name)} {score:.4f}" for name, score in ranked)
        yield f"{head} [bold]{escape(found['class'])}[/] ({scores})"


def score(
    name: NameArgument,
    source: Annotated[
        Path, typer.Option("--in", metavar="FILE", help="Rows: .csv, .parquet or .tfrecord.")
    ],
    target: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Answers: .csv, .jsonl, .parquet, ...")
    ],
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="COLUMN",
            help="Column of the input to repeat in the answers, such as an id; may be repeated.",
        ),
    ] = None,
    version: VersionOption = None,
    is_json: JsonOption = False,
) -> None:
    """Predict every row of a file with the champion, through Beam; no server is needed.

    Rows are counted from 1, as 'slipway predict' counts them. Those that cannot be used are written
    to FILE.bad.jsonl, each with its number and reason.

    [bold]Examples[/]

    [cyan]$ slipway score census --in people.csv --out answers.csv[/]

    [cyan]$ slipway score census --in people.csv --out answers.csv --key person_id[/]

    [cyan]$ slipway score census --in people.parquet --out answers.parquet --version 3[/]
    """
    from cli.runs.standing import champion_of
    from cli.stack.stack_file import artifact_root
    from contract.layout import PipelineLayout
    from contract.loader import load_pipeline
    from contract.pipelines import find_pipeline

    config = load_pipeline(find_pipeline(name))
    layout = PipelineLayout(artifact_root(), name)
    number = version or champion_of(layout)
    layout.check_kept(number)
    with notes.status(f"Scoring with version {number}"):
        with quietly():
            from components.models.score import Scoring
            from components.models.score import score as score_file

        paths = source.resolve(), target.resolve()
        report = score_file(Scoring(layout.version(number), config, *paths, tuple(keys or ())))
    if is_json:
        print_json(asdict(report))
        return
    say(f"{report.rows:,} rows answered by version {report.version}: {escape(str(target))}")
    if report.bad_rows_file is not None:
        bad_rows = escape(str(report.bad_rows_file))
        say(f"Rows that could not be used: {report.bad_rows:,}, in {bad_rows}")
