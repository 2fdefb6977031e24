"""`slipway tensorboard`: the training of a pipeline's runs, in TensorBoard."""

import os
import sys
from typing import Annotated

import typer

from cli.extras import require
from cli.options import NameArgument
from cli.output import say
from contract.errors import NotFoundError


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
