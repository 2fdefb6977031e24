"""The command that serves models without a pipeline: serve-tf."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from cli.extras import require
from contract.programs import STANDALONE_SERVER, program_command

# A link of this name to `slipway` is `slipway serve-tf`.
TENSORFLOW_MODEL_SERVER = "tensorflow_model_server"

# Its flags are not ours: all but our own `--help` go to the server as they are.
PASSING_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def serve_tf(context: typer.Context) -> None:
    """Serve SavedModels and LiteRT files from folders, with the flags of tensorflow_model_server.

    Takes REST and gRPC of TensorFlow Serving, and its files for models, batching and monitoring.
    'slipway serve-tf --helpfull' lists the flags.

    [bold]Examples[/]

    [cyan]$ slipway serve-tf --port=8500 --rest_api_port=8501 --model_name=half \\
        --model_base_path=/models/half[/]

    [cyan]$ slipway serve-tf --model_config_file=/models/models.config \\
        --model_config_file_poll_wait_seconds=10[/]
    """
    become_server(context.args, "slipway serve-tf")


def become_server(arguments: Sequence[str], program: str) -> NoReturn:
    """Turn this process into the server, so that signals for it reach it; `program` is its name.

    Raises:
        UserError: If what it needs is not installed.
    """
    require("serving")
    command = [*program_command(STANDALONE_SERVER), *arguments]
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, "SLIPWAY_PROGRAM": program})
