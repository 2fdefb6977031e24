"""What the terminal shows: data on stdout, everything else on stderr."""

import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from contract.errors import SlipwayError

_NVIDIA = Path("/dev/nvidiactl")
FILE_WIDTH = 160  # characters: where no terminal says how wide it is, tables need not be squeezed

for stream in (sys.stdout, sys.stderr):  # a character that the terminal lacks is shown as \u2713
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")

data = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
notes = Console(stderr=True, soft_wrap=True, highlight=False)


def say(message: str) -> None:
    """Print one line (rich markup) about the work, on stderr."""
    notes.print(message)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout, never coloured or wrapped."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_json_line(value: Any) -> None:
    """Print a value as one line of JSON on stdout, at once."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


def complain(error: SlipwayError) -> None:
    """Print an error without a traceback, one problem per line."""
    first, *others = str(error).splitlines() or [type(error).__name__]
    notes.print(f"[bold red]error:[/] {escape(first)}")
    for line in others:
        notes.print(f"       {escape(line)}")


@contextmanager
def quietly() -> Iterator[None]:
    """Drop what is written to stderr below Python: TensorFlow's notes while it is imported.

    Without a GPU, TensorFlow is told so; it would look for one later and report CUDA errors.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not _NVIDIA.exists():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def command_name() -> str:
    """Return how this command was called, so that a printed command works when it is copied."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    if called.name != "slipway":
        return "slipway"
    if found is not None and Path(found).absolute() == called.absolute():
        return called.name
    try:
        return str(called.absolute().relative_to(Path.cwd()))
    except ValueError:
        return shlex.quote(str(called.absolute()))
