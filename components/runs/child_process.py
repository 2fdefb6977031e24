"""Processes that must not outlive the step that started them."""

import shutil
from collections.abc import Sequence


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """Return the command that also ends when its parent is killed, where the system can do that."""
    if setpriv := shutil.which("setpriv"):
        return [setpriv, "--pdeathsig", "TERM", *command]
    return list(command)
