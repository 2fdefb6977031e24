"""The command that optimises a SavedModel from anywhere: optimize."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli.options import JsonOption
from cli.output import data, notes, print_json, quietly, say
from cli.runs.ledger_tables import KEPT, UNDONE, engines_table, ledger_table
from contract.errors import ConfigError, UserError
from contract.interrupts import terminated_like_interrupted

if TYPE_CHECKING:
    from components.optimize.optimize import Optimized
    from contract.records.optimization import LedgerRow, OptimizeRecord, ServedEngine
    from contract.schema.optimize import OptimizeConfig

LEDGER = "ledger.json"


def optimize(
    saved_model: Annotated[
        Path, typer.Argument(metavar="SAVED_MODEL_DIR", help="Any SavedModel with signatures.")
    ],
    examples: Annotated[
        Path,
        typer.Option("--data", metavar="FILE", help="TFRecord of tf.Examples, plain or GZIP."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new folder: model, ledger, pictures.")
    ],
    passes: Annotated[
        str, typer.Option(help="Names separated by commas, or a YAML list; empty: the default.")
    ] = "",
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, max=100.0, help="Points of the metric that int8 may cost."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Relative difference that a float pass may cause. Default: 1e-5."
        ),
    ] = None,
    min_gain: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of size or time that int8 must save; 0: any."),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="[OUTPUT=]FEATURE", help="The true class or value, if known.")
    ] = "",
    engines: Annotated[
        str,
        typer.Option(
            help="Engines to try beside TensorFlow, separated by commas; 'tensorflow': no other."
        ),
    ] = "",
    runtimes: Annotated[str, typer.Option(hidden=True)] = "",  # the old name of --engines
    exports: Annotated[
        str,
        typer.Option(help="Files for use outside Slipway: litert, litert_int8, xla_aot."),
    ] = "",
    is_json: JsonOption = False,
) -> None:
    """Make a SavedModel smaller and faster; each pass must keep the original's answers.

    Features of the examples are matched to the signatures' inputs by name; a signature that takes
    serialized examples gets them as they are. Without --label int8 is judged by how often the
    predicted class stays the same. Then OpenVINO and LiteRT are tried beside TensorFlow. DIR holds
    model/ (and float_model/, if int8 was kept), engine/ if another engine than TensorFlow is
    faster, exports/, the ledger as JSON, and pictures of graph, ledger, calibration and engines.

    [bold]Examples[/]

    [cyan]$ slipway optimize exported/ --data examples.tfrecord --out small/[/]

    [cyan]$ slipway optimize exported/ --data rows.tfrecord --out small/ --label digit --budget 2[/]

    [cyan]$ slipway optimize exported/ --data examples.tfrecord --out small/ --json \\
        --passes 'freeze_graph, fold_constants, {round_weights: {num_steps: 64}}'[/]

    [cyan]$ slipway optimize exported/ --data examples.tfrecord --out small/ \\
        --engines litert,openvino_int8 --exports litert_int8[/]
    """
    if runtimes:
        say("--runtimes: deprecated name; write '--engines' instead")
    limits = {"budget_percent": budget, "tolerance": tolerance, "min_gain_ratio": min_gain}
    settings = _settings(passes, limits, _names(engines or runtimes), _names(exports))
    _check_out(out, saved_model)
    with notes.status("Loading TensorFlow") as status:

        def show(row: "LedgerRow") -> None:
            notes.print(
                f"{KEPT if row.is_kept else UNDONE} [bold]{row.name}[/] {escape(row.reason)}"
            )
            status.update(f"Optimising: after {row.name}")

        with quietly():
            import components.optimize.optimize  # noqa: F401
        with terminated_like_interrupted():
            record = _run(saved_model, examples, out, settings, label, show, status.update)
    if is_json:
        print_json(record.model_dump(mode="json"))
        return
    data.print(ledger_table(record))
    if record.engine.measured:
        data.print(engines_table(record.engine))
    for name, reason in record.engine.exports_left_out.items():
        say(f"{UNDONE} no export {name}: {escape(reason)}")
    say(f"Wrote [bold]{escape(str(out))}[/]; serve [bold]{escape(str(out / record.model))}[/]")


def _check_out(out: Path, saved_model: Path) -> None:
    """Refuse a folder that exists, cannot be created, or would change the source."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: already exists; choose a new folder")
    place = next(parent for parent in out.absolute().parents if parent.exists())
    if not place.is_dir():
        raise UserError(f"--out {out}: {place} is a file; choose a folder elsewhere")
    is_model = (saved_model / "saved_model.pb").is_file()
    if is_model and saved_model.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(
            f"--out {out}: inside {saved_model}, which is only read; choose a folder elsewhere"
        )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _settings(
    passes: str, limits: Mapping[str, float | None], engines: list[str], exports: list[str]
) -> "OptimizeConfig":
    import yaml

    from contract.loader import validate
    from contract.schema.optimize import OptimizeConfig

    raw: dict[str, Any] = dict(limits)
    if passes:
        text = passes if passes.lstrip().startswith("[") else f"[{passes}]"
        try:
            raw["passes"] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError([f"--passes {passes}: not a list of passes: {error}"]) from error
    tried = {"candidates": engines, "exports": exports}
    raw["engines"] = {key: names for key, names in tried.items() if names}
    given = {key: value for key, value in raw.items() if value is not None}
    return validate(OptimizeConfig, given, "slipway optimize")


def _run(
    saved_model: Path,
    examples: Path,
    out: Path,
    settings: "OptimizeConfig",
    label: str,
    show: Callable[["LedgerRow"], None],
    say_what: Callable[[str], None],
) -> "OptimizeRecord":
    from components.models.saved_models import load
    from components.optimize.engines.engines import add_engines
    from components.optimize.optimize import optimize as optimize_model
    from components.optimize.rows.tf_examples import read_data
    from contract.storage import publish_directory

    rows = read_data(examples, load(saved_model), settings, label)
    with publish_directory(out.absolute()) as folder:
        optimized = optimize_model(saved_model, rows, settings, folder, show)
        say_what("Trying engines")
        record = add_engines(optimized.record, rows, settings.engines, folder)
        record.write(folder / LEDGER)
        _draw(optimized, record.engine, folder)
    return record


def _draw(optimized: "Optimized", engine: "ServedEngine", folder: Path) -> None:
    from components.optimize.report.engine_tables import as_figure
    from components.optimize.report.pictures import pictures_of

    for name, figure in pictures_of(optimized):
        figure.savefig(folder / name)
    if engine.measured:
        as_figure(engine).savefig(folder / "engines.png")
