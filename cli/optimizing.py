"""The command that optimises a SavedModel from anywhere: optimize."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.options import JsonOption
from cli.output import data, notes, print_json, quietly, say
from contract.errors import ConfigError, UserError

if TYPE_CHECKING:
    from components.optimize.optimize import Optimized
    from contract.records import LedgerRow, OptimizeRecord
    from contract.schema import OptimizeConfig

LEDGER = "ledger.json"
KEPT, UNDONE = "[green]✓[/]", "[yellow]–[/]"


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
        str, typer.Option(help="Names with commas, or a YAML list; the default ones if empty.")
    ] = "",
    budget: Annotated[
        float | None, typer.Option(min=0.0, max=100.0, help="Points that int8 may cost.")
    ] = None,
    min_gain: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of size or time int8 must save; 0: any."),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="[OUTPUT=]FEATURE", help="The true class or value, if known.")
    ] = "",
    is_json: JsonOption = False,
) -> None:
    """Make a SavedModel smaller and faster, each pass held to the original's answers.

    Features of the examples are matched to the signatures' inputs by name; a signature that takes
    serialized examples gets them as they are. Without --label int8 is judged by how often the
    predicted class stays the same. DIR holds model/ (and float_model/, if int8 was kept), the
    ledger as JSON, and pictures of graph, ledger and calibration.

    [bold]Examples[/]

    [cyan]$ slipway optimize exported/ --data examples.tfrecord --out small/[/]

    [cyan]$ slipway optimize exported/ --data rows.tfrecord --out small/ --label digit --budget 2[/]

    [cyan]$ slipway optimize exported/ --data examples.tfrecord --out small/ --json \\
        --passes 'freeze_graph, fold_constants, {round_weights: {num_steps: 64}}'[/]
    """
    settings = _settings(passes, budget, min_gain)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: already there; choose a new folder")
    with notes.status("Loading TensorFlow") as status:

        def show(row: "LedgerRow") -> None:
            notes.print(
                f"{KEPT if row.is_kept else UNDONE} [bold]{row.name}[/] {escape(row.reason)}"
            )
            status.update(f"Optimising: after {row.name}")

        with quietly():
            import components.optimize.optimize  # noqa: F401
        record = _run(saved_model, examples, out, settings, label, show)
    if is_json:
        print_json(record.model_dump(mode="json"))
        return
    data.print(ledger_table(record))
    say(f"Wrote [bold]{escape(str(out))}[/]; serve [bold]{escape(str(out / record.model))}[/]")


def _settings(passes: str, budget: float | None, min_gain: float | None) -> "OptimizeConfig":
    import yaml

    from contract.loader import validate
    from contract.schema import OptimizeConfig

    raw: dict[str, Any] = {"budget_percent": budget, "min_gain_ratio": min_gain}
    if passes:
        text = passes if passes.lstrip().startswith("[") else f"[{passes}]"
        try:
            raw["passes"] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError([f"--passes {passes}: not a list of passes: {error}"]) from error
    given = {key: value for key, value in raw.items() if value is not None}
    return validate(OptimizeConfig, given, "slipway optimize")


def _run(
    saved_model: Path,
    examples: Path,
    out: Path,
    settings: "OptimizeConfig",
    label: str,
    show: Any,
) -> "OptimizeRecord":
    from components.optimize.optimize import optimize as optimize_model
    from components.optimize.tf_examples import read_data
    from components.saved_models import load
    from contract.storage import publish_directory

    rows = read_data(examples, load(saved_model), settings, label)
    with publish_directory(out.absolute()) as folder:
        optimized = optimize_model(saved_model, rows, settings, folder, show)
        optimized.record.write(folder / LEDGER)
        _draw(optimized, folder)
    return optimized.record


def _draw(optimized: "Optimized", folder: Path) -> None:
    from components.optimize.pictures import pictures_of

    for name, figure in pictures_of(optimized):
        figure.savefig(folder / name)


def ledger_table(record: "OptimizeRecord") -> Table:
    """Return the ledger as a table for the terminal."""
    has_metric = record.ledger[0].metric is not None
    table = Table(title=f"Ledger ({record.metric}, budget {record.budget_percent:g} points)")
    table.add_column("pass")
    names = ["ops", "KiB", "zipped", "ms b1", "ms b32", "max diff", "mean diff", "relative"]
    names += [
        "agree",
        *([record.metric.split(" of ")[0]] if has_metric else []),
        "cold s",
        "peak MB",
    ]
    for name in names:
        table.add_column(name, justify="right")
    for row in record.ledger:
        table.add_row(*_cells(row, has_metric), style=None if row.is_kept else "dim")
    return table


def _cells(row: "LedgerRow", has_metric: bool) -> list[str]:
    mark = KEPT if row.is_kept else UNDONE
    metric = [_number(row.metric, ".4f")] if has_metric else []
    peak = None if row.peak_memory_bytes is None else row.peak_memory_bytes / 2**20
    return [
        f"{mark} {row.name}",
        str(row.operations),
        f"{row.size_bytes / 1024:,.1f}",
        f"{row.compressed_bytes / 1024:,.1f}",
        f"{row.latency_ms_batch_1:.2f}",
        f"{row.latency_ms_batch_32:.2f}",
        f"{row.max_difference:.2g}",
        f"{row.mean_difference:.2g}",
        f"{row.max_relative_difference:.2g}",
        _number(row.agreement_ratio, ".4f"),
        *metric,
        _number(row.cold_start_seconds, ".2f"),
        _number(peak, ".1f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
