"""What runs saw and learned: `slipway columns` draws their data, `tensorboard` their training."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.extras import require
from cli.options import NameArgument
from cli.output import quietly, say
from contract.errors import NotFoundError, UserError, did_you_mean

if TYPE_CHECKING:
    from contract.layout import PipelineLayout, RunLayout


def columns(
    name: NameArgument,
    chosen: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COLUMN]...", help="Features, or label:HEAD; none: all."),
    ] = None,
    run: Annotated[
        str, typer.Option("--run", metavar="RUN", help="A run's id. Default: the latest.")
    ] = "",
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="A picture; its ending is its format.")
    ] = Path("columns.png"),
) -> None:
    """Draw the values of a run's columns: an overview, and a chart of each chosen one (at most 30).

    The picture of a run itself (distributions.png) has charts of columns with anomalies only.

    [bold]Examples[/]

    [cyan]$ slipway columns census age education[/]

    [cyan]$ slipway columns census --run manual-1 --out census.pdf[/]
    """
    from cli.stack.stack_file import artifact_root
    from contract.layout import PipelineLayout
    from contract.pipelines import find_pipeline

    find_pipeline(name)
    require("components")
    layout, statistics = _validated(PipelineLayout(artifact_root(), name), run)
    with quietly():
        from components.validate.figures import draw_distributions
        from components.validate.statistics import DataStatistics
    train = DataStatistics.read(statistics).splits["train"]
    for column in chosen or ():
        if column not in train:
            raise UserError(f"{name}: no column '{column}'{did_you_mean(column, train)}")
    figure = draw_distributions(train, {}, chosen or train, "")
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f"--out {out}: {error}") from error
    say(f"Wrote {out}: the train split of run {layout.run_id}")


def tensorboard(
    name: NameArgument,
    port: Annotated[int, typer.Option("--port", help="0: any free port.")] = 6006,
    host: Annotated[str, typer.Option("--host", help="Where it listens.")] = "127.0.0.1",
) -> None:
    """Show loss, metrics and timelines of all runs of a pipeline in TensorBoard, until Ctrl-C.

    [bold]Examples[/]

    [cyan]$ slipway tensorboard digits[/]

    [cyan]$ slipway tensorboard digits --port 0[/]
    """
    from cli.stack.stack_file import artifact_root
    from contract.layout import PipelineLayout
    from contract.pipelines import find_pipeline

    find_pipeline(name)
    require("components")
    runs = PipelineLayout(artifact_root(), name).runs
    if not any(runs.glob("*/train/tensorboard")):
        raise NotFoundError(
            f"{runs}: no run of '{name}' has trained yet; start one with 'slipway run {name} "
            "--local'"
        )
    say(f"TensorBoard of {runs}: stop it with Ctrl-C")
    arguments = ["--logdir", str(runs), "--port", str(port), "--host", host]
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *arguments])


def _validated(pipeline: "PipelineLayout", run_id: str) -> "tuple[RunLayout, Path]":
    """Return the latest run that has validated data, or the one asked for, and its statistics."""
    from cli.runs.outcome import read_result
    from cli.runs.standing import latest_runs
    from contract.records.data import ValidateRecord

    for run in latest_runs(pipeline):
        if run_id in ("", run.run_id) and (result := read_result(run, "validate")) is not None:
            record = result.detail_as(ValidateRecord)
            return run, run.step("validate") / record.statistics
    which = f"run '{run_id}' has not" if run_id else "no run has"
    raise NotFoundError(
        f"{pipeline.pipeline}: {which} validated data; 'slipway status {pipeline.pipeline}' lists "
        "the runs"
    )
