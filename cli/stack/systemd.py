"""A systemd unit that runs the services of this machine and starts them after a reboot.

systemd ends all processes of the unit, by its control group, when supervisord has died, and starts
everything again.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from contract.errors import ConfigError, UserError
from contract.places import CODE_FOLDER
from contract.storage import write_atomically

UNIT = "slipway.service"
BOOTED = Path("/run/systemd/system")  # sd_booted(3): there if systemd has started the machine
_KEPT_VARIABLES = ("SLIPWAY_HOME", "SLIPWAY_PIPELINES", "SLIPWAY_RUNTIME", "SLIPWAY_WORKSPACE")
_VERIFY_SECONDS = 30.0


def install(options: Sequence[str], home: Path) -> Path:
    """Write the user's unit that runs `slipway up` with these options; return its path.

    Raises:
        UserError: If there is no systemd here.
        ConfigError: If systemd refuses the unit.
    """
    if not BOOTED.is_dir():
        raise UserError(f"--install: this machine was not started by systemd ({BOOTED}: not there)")
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = folder / "systemd" / "user" / UNIT
    write_atomically(path, unit(options, home.absolute(), _absolute(os.environ)))
    if trouble := complaint(path):
        raise ConfigError([f"{path}: systemd-analyze: {trouble}"])
    return path


def unit(options: Sequence[str], home: Path, environment: Mapping[str, str]) -> str:
    """Return the unit's text.

    `up` ends with an error if only MLflow or Airflow did not start; serving runs on, so the unit
    ignores its exit code.
    """
    command = [sys.executable, "-m", "cli.main"]
    kept = {"SLIPWAY_HOME": str(home)} | {
        name: environment[name] for name in _KEPT_VARIABLES[1:] if environment.get(name)
    }
    variables = [f"Environment={_quoted(f'{name}={value}')}" for name, value in kept.items()]
    lines = [
        "[Unit]",
        "Description=Slipway: Airflow, MLflow and serving",
        "After=network.target",
        "",
        "[Service]",
        "Type=forking",
        f"PIDFile={_escaped(str(home / 'supervisor' / 'supervisord.pid'))}",
        f"WorkingDirectory={_escaped(str(CODE_FOLDER))}",
        *variables,
        f"ExecStart=-{_words([*command, 'up', *options])}",
        f"ExecStop={_words([*command, 'down'])}",
        "TimeoutStartSec=900",
        "TimeoutStopSec=180",
        "Restart=always",
        "RestartSec=2",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join([*lines, ""])


def _absolute(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the kept variables with absolute paths: the unit does not run where it is written."""
    return {
        name: os.pathsep.join(str(Path(one).absolute()) for one in value.split(os.pathsep) if one)
        for name in _KEPT_VARIABLES
        if (value := environment.get(name))
    }


def complaint(path: Path) -> str:
    """Return the complaints of `systemd-analyze verify`; empty without the program."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return ""
    said = subprocess.run(
        [program, "verify", str(path)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=_VERIFY_SECONDS,
    )
    return said.stderr.strip() if said.returncode else ""


def _words(command: Sequence[str]) -> str:
    return " ".join(_quoted(word) for word in command)


def _quoted(word: str) -> str:
    """Quote a word as systemd.syntax(7) reads it; `%` and `$` are its own signs."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _escaped(text: str) -> str:
    if "\n" in text:
        raise ConfigError([f"{text!r}: a unit of systemd cannot hold a line break"])
    return text.replace("%", "%%")
