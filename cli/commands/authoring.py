"""Commands for authors of a pipeline: new, check, schema."""

import os
import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import JsonOption, NameArgument, SetOption
from cli.output import command_name, data, print_json, say
from contract.errors import EXIT_USER_ERROR, ConfigError, UserError

TEMPLATE = resources.files("cli") / "template"
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
) -> None:
    """Scaffold a pipeline folder that runs as it is.

    [bold]Examples[/]

    [cyan]$ slipway new churn[/]

    [cyan]$ slipway new churn --into ~/pipelines && export SLIPWAY_PIPELINES=~/pipelines[/]
    """
    from contract.loader import load_pipeline
    from contract.pipelines import pipeline_folders
    from contract.places import workspace

    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ConfigError(
            [
                f"name '{name}': expected a lower-case letter, then at most 39 lower-case letters, "
                "digits or '_', as in 'churn_2'"
            ]
        )
    known = pipeline_folders()
    parent = (into or _own_parent() or workspace() / "configs" / "pipelines").expanduser().resolve()
    folder = parent / name
    if name in known or folder.exists():
        raise UserError(
            f"pipeline '{name}': already exists: {known.get(name, folder)}; choose another name"
        )
    try:
        _scaffold(folder)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"--into {parent}: cannot create a folder there: {error.strerror}; choose another"
        ) from error
    if not schema_path().exists():  # a checkout has it; an empty workspace does not
        schema(None)
    config = load_pipeline(folder)
    say(
        f"Created [bold]{escape(str(folder))}[/] (with {config.ingest.source.kind} data as an "
        "example)."
    )
    if name not in pipeline_folders():
        parents = os.pathsep.join([*_own_parents(), str(parent)])
        export = escape(f"export SLIPWAY_PIPELINES={shlex.quote(parents)}")
        say(f"Let Slipway find it:  [cyan]{export}[/]")
    called = escape(command_name())
    say(f"Try it:  [cyan]{called} check {name} && {called} run {name} --local[/]")


def _own_parent() -> Path | None:
    """Return the folder in which a user of SLIPWAY_PIPELINES keeps pipelines."""
    parents = _own_parents()
    return Path(parents[0]) if parents else None


def _own_parents() -> list[str]:
    return [part for part in os.environ.get("SLIPWAY_PIPELINES", "").split(os.pathsep) if part]


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
    from cli.stack.stack_file import artifact_root
    from contract.loader import parse_overrides
    from contract.pipelines import find_pipeline

    findings = []
    for finding in check_pipeline(
        find_pipeline(name), parse_overrides(set_ or []), artifact_root()
    ):
        findings.append(finding)
        if not is_json:
            data.print(f"{STATES[finding.state]} {finding.subject}: {escape(finding.message)}")
    if is_json:
        print_json([finding.as_dict() for finding in findings])
    if any(finding.state == "error" for finding in findings):
        raise typer.Exit(EXIT_USER_ERROR)


def schema(
    output: Annotated[
        Path | None, typer.Option(help="File to write; default: configs/pipeline.schema.json.")
    ] = None,
) -> None:
    """Write the JSON Schema of pipeline.yaml, which editors use to complete and check it.

    [bold]Examples[/]

    [cyan]$ slipway schema[/]

    [cyan]$ slipway schema --output ~/pipelines/pipeline.schema.json[/]
    """
    from contract.storage import write_atomically

    path = output or schema_path()
    write_atomically(path, schema_text())
    say(f"Wrote {escape(str(path))}")


def schema_path() -> Path:
    """Return the path of the schema for editors."""
    from contract.places import workspace

    return workspace() / "configs" / "pipeline.schema.json"


def schema_text() -> str:
    """Return the JSON Schema of `pipeline.yaml` as it belongs in its file."""
    import json

    from contract.schema.pipeline import PipelineConfig

    document = PipelineConfig.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _scaffold(folder: Path) -> None:
    from contract.storage import publish_directory

    with publish_directory(folder) as temporary:
        files = [file for file in TEMPLATE.iterdir() if file.is_file()]
        for source in sorted(files, key=lambda file: file.name):
            text = source.read_text(encoding="utf-8")
            if source.name == "pipeline.yaml":
                text = text.replace("$schema=SCHEMA", f"$schema={_schema_from(folder)}")
                text = text.replace("name: template", f"name: {folder.name}", 1)
            (temporary / source.name).write_text(text, encoding="utf-8")


def _schema_from(folder: Path) -> str:
    """Return the schema's path as an editor needs it: relative inside the checkout."""
    path = schema_path()
    if folder.is_relative_to(path.parent):
        return os.path.relpath(path, folder)
    return str(path)
