"""Who is at the command line: a name for what they do, and their consent to it."""

import getpass
import os
import sys

import typer

from cli.output import say
from contract.errors import EXIT_UNEXPECTED


def user_name() -> str:
    """Return the user's name, or the number of one who has no name, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def author() -> str:
    """Return who changes the traffic, as plans and rollouts keep it."""
    return f"{user_name()} at the command line"


def ask(is_agreed: bool) -> None:
    """Ask at a terminal whether to do what was said, unless the user agreed to it before.

    Raises:
        typer.Exit: If the answer is no.
    """
    if not is_agreed and sys.stdin.isatty() and not typer.confirm("Do it?", err=True):
        say("Nothing was changed.")
        raise typer.Exit(EXIT_UNEXPECTED)
