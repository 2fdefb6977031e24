"""Commands that take a model from elsewhere into service: package, deploy."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli.extras import require
from cli.options import JsonOption, SetOption, VersionOption
from cli.output import command_name, notes, print_json, quietly, say
from contract.errors import ConfigError, NotFoundError, UserError
from contract.interrupts import terminated_like_interrupted

if TYPE_CHECKING:
    from components.package.imported import Imported
    from contract.layout import PipelineLayout
    from contract.records.traffic import DeployRecord

SourceOption = Annotated[
    Path,
    typer.Option("--from", metavar="PATH", help="A SavedModel, a .tflite file, or a package."),
]
RowsOption = Annotated[
    Path | None,
    typer.Option("--rows", metavar="FILE", help="JSON rows as callers send them; - is stdin."),
]
SignatureOption = Annotated[
    str, typer.Option("--signature", metavar="NAME", help="The signature that the rows are for.")
]
Named = Annotated[str, typer.Argument(metavar="NAME", help="The model's name, as callers ask.")]


def package(
    source: SourceOption,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="By which callers will ask for it.")
    ],
    rows: RowsOption = None,
    signature: SignatureOption = "",
    set_: SetOption = None,
    is_json: JsonOption = False,
) -> None:
    """Make a model from anywhere the next version of NAME; no pipeline is needed.

    The model is copied and served. With --rows it has to answer each row alone as beside the
    others, and as TensorFlow does outside the server; then it is tried under load. The rows
    are kept, and each server of the version is warmed up with them.

    [bold]Examples[/]

    [cyan]$ slipway package --from exported/ --name ranker --rows rows.json[/]

    [cyan]$ slipway package --from model.tflite --name half && slipway deploy half[/]
    """
    require("components", "serving")
    from cli.requests.rows import rows_from_file
    from cli.stack.stack_file import artifact_root
    from contract.layout import PipelineLayout
    from contract.loader import own_state_folder
    from contract.schema.imported import PackagingConfig

    _check_name(name)
    settings = _settings(PackagingConfig, set_, "slipway package")
    given = rows_from_file(rows) if rows is not None else []
    own_state_folder()
    layout = PipelineLayout(artifact_root(), name)
    with notes.status(f"Packaging {source}"), terminated_like_interrupted():
        with quietly():
            from components.package.imported import Import, import_model
        imported = import_model(Import(source.absolute(), given, signature, settings), layout)
    if is_json:
        print_json(_as_json(imported))
        return
    _show(imported)


def deploy(
    name: Named,
    version: VersionOption = None,
    source: Annotated[
        Path | None,
        typer.Option("--package", metavar="PATH", help="Package this first; as 'package --from'."),
    ] = None,
    rows: RowsOption = None,
    set_: SetOption = None,
    is_json: JsonOption = False,
) -> None:
    """Take a version that 'slipway package' made through canary and promotion.

    Without --version it is the newest. The first version in service is promoted at once, because
    there is nothing to compare it with. Ctrl-C ends the trial; stable gets all traffic.

    [bold]Examples[/]

    [cyan]$ slipway deploy ranker[/]

    [cyan]$ slipway deploy ranker --package exported/ --set deploy.min_seconds_per_step=10[/]
    """
    require("components", "serving")
    from cli.stack.stack_file import require_stack
    from contract.schema.imported import DeployingConfig

    if source is not None and version is not None:
        raise UserError("--package and --version: expected one of them")
    if rows is not None and source is None:
        raise UserError("--rows: expected --package, too: the rows are kept with a package")
    stack, settings = require_stack(), _settings(DeployingConfig, set_, "slipway deploy")
    if source is not None:
        package(source, name, rows)
    layout = imported_layout(name)
    number = version or layout.kept_versions()[-1]
    layout.check_kept(number)
    with notes.status(f"Deploying version {number}"), terminated_like_interrupted():
        with quietly():
            from components.deploy.imported import deploy_imported
        record = deploy_imported(layout, number, settings, stack.agent_url, stack.agent_token_file)
    _show_end(name, record, is_json)


def image(
    name: Named,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Of the kept ones.")],
    target: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="The folder to make; it must not exist.")
    ],
    architecture: Annotated[
        str, typer.Option("--architecture", metavar="NAME", help="That the image is marked for.")
    ] = "amd64",
    is_json: JsonOption = False,
) -> None:
    """Write a version as an OCI image layout; no container engine is needed.

    The image holds the package below /models, with its bill of materials and provenance, and no
    program. The same version always gets the same digest.

    [bold]Examples[/]

    [cyan]$ slipway image ranker 3 --to ranker-3[/]
    """
    require("components")
    from components.package.oci_image import write_image

    layout = imported_layout(name)
    layout.check_kept(version)
    with notes.status(f"Writing version {version}"), terminated_like_interrupted():
        made = write_image(layout.version(version), target.absolute(), architecture)
    if is_json:
        print_json({"folder": str(made.folder), "digest": made.digest})
        return
    say(f"Version [bold]{version}[/] of [bold]{name}[/] is the image {made.digest} in {target}")


def imported_layout(name: str) -> "PipelineLayout":
    """Return where the versions of an imported model are.

    Raises:
        NotFoundError: If there are none of this name.
    """
    from cli.stack.stack_file import artifact_root
    from contract.layout import PipelineLayout

    layout = PipelineLayout(artifact_root(), name)
    if not layout.kept_versions():
        raise NotFoundError(
            f"model '{name}': no version is packaged; make one with '{command_name()} package "
            f"--from PATH --name {name}'"
        )
    return layout


def _check_name(name: str) -> None:
    """Refuse a name that is none, or that a pipeline has."""
    from contract.pipelines import pipeline_folders
    from contract.schema.section import NAME

    if not re.fullmatch(NAME, name):
        raise ConfigError(
            [
                f"--name '{name}': expected a lower-case letter, then at most 39 lower-case "
                "letters, digits or '_', as in 'ranker_2'"
            ]
        )
    if (folder := pipeline_folders().get(name)) is not None:
        raise UserError(
            f"--name {name}: taken by the pipeline in {folder}, whose runs make its versions; "
            "choose another name"
        )


def _settings(kind: Any, set_: list[str] | None, label: str) -> Any:
    """Return settings with what --set gives."""
    from contract.loader import override, parse_overrides, validate

    raw: dict[str, Any] = {}
    for key, value in parse_overrides(set_ or []).items():
        override(raw, key, value)
    return validate(kind, raw, label)


def _as_json(imported: "Imported") -> dict[str, Any]:
    return {
        "manifest": imported.manifest.model_dump(mode="json"),
        "load": imported.load.model_dump(mode="json") if imported.load else None,
        "compared_rows": imported.compared_rows,
        "notes": imported.notes,
    }


def _show(imported: "Imported") -> None:
    manifest = imported.manifest
    for name, one in manifest.signatures.items():
        inputs = ", ".join(f"{n} {t.dtype}" for n, t in one.inputs.items())
        outputs = ", ".join(f"{n} {t.dtype}" for n, t in one.outputs.items())
        say(f"  {escape(name)} ({one.method}): {escape(inputs)} -> {escape(outputs)}")
    if imported.compared_rows:
        say(f"  no skew: {imported.compared_rows} rows answered as TensorFlow answers them")
    if (load := imported.load) is not None:
        say(
            f"  load test: {load.requests:,} requests, {load.errors} errors, p50 {load.p50_ms:.1f} "
            f"ms, p99 {load.p99_ms:.1f} ms"
        )
        if load.spans_ms:
            parts = (f"{name} {taken:.2g}" for name, taken in load.spans_ms.items())
            say(f"  at the server, mean in ms: {', '.join(parts)}")
    for note in imported.notes:
        say(f"  [yellow]{escape(note)}[/]")
    say(
        f"Version [bold]{manifest.version}[/] of [bold]{manifest.pipeline}[/] is packaged. Deploy "
        f"it: {command_name()} deploy {manifest.pipeline}"
    )


def _show_end(name: str, record: "DeployRecord", is_json: bool) -> None:
    if is_json:
        print_json(record.model_dump(mode="json"))
        return
    say(f"[bold]{record.outcome.replace('_', ' ')}[/]  ({name} version {record.version})")
    for reason in record.reasons:
        say(f"  {escape(reason)}")
