"""What supervisord should run, and the files that tell it.

They are in one folder, the home:

<home>/supervisord.conf     written by `write_configuration`
<home>/conf.d/<name>.conf   the programs that `write_configuration` was given
<home>/added.d/<name>.conf  programs added while it runs, by `Supervisor.add`
<home>/groups/<name>        the process group of each program's last start
<home>/session              the session of the last supervisord, which all its processes are in
<home>/supervisord.log, supervisord.pid
"""

import hashlib
import os
import resource
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contract.private_files import private_folder
from contract.storage import write_atomically
from serving.supervisord import alone
from serving.supervisord.syntax import environment_value, escape

# `sun_path` of a unix socket holds 108 bytes with its closing zero, and supervisord first binds
# `<path>.<pid>`.
_MAX_SOCKET_PATH_BYTES = 107 - len(".4194304")
_DESCRIPTORS = 65_536  # of a program; with the 1,024 of many shells Envoy would run out
_SHORT_FOLDER = Path("/tmp")  # where TMPDIR is too long as well

_ALONE = str(Path(alone.__file__).absolute())


@dataclass(frozen=True)
class Program:
    """A long-running process and how it is kept.

    A program that ends within `start_seconds` counts as failed to start; after `start_retries` of
    those in a row supervisord gives up (state FATAL). Later ends are restarted without limit.
    `is_ready` tells whether it serves; without it nobody can ask. Before each start, what an
    earlier start has left behind is ended; with `spares_busy` only what has no child process.
    One that `is_adopted` runs on when supervisord is killed, and the next supervisord takes it
    over, if it would start the same.
    """

    name: str
    command: tuple[str, ...]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    is_restarted: bool = True
    start_seconds: int = 1
    start_retries: int = 3
    stop_signal: str = "TERM"
    stop_wait_seconds: int = 30
    stops_whole_group: bool = True
    priority: int = 500
    log_max_bytes: int = 20 << 20
    log_backups: int = 3
    is_ready: Callable[[], bool] | None = None
    spares_busy: bool = False
    is_adopted: bool = False

    def configuration(self, home: Path) -> str:
        """Return the program's section of the supervisord configuration in a home."""
        group = str(self.stops_whole_group).lower()
        remains = "idle" if self.spares_busy else "all"
        if self.is_adopted:
            remains = f"adopt:{self._digest()}:{max(self.stop_wait_seconds - 1, 0.5):g}"
        first = (sys.executable, "-I", _ALONE, str(home / "groups" / self.name), remains)
        options = {
            "command": escape(shlex.join((*first, *self.command)), self.name),
            "directory": escape(str(self.directory), self.name) if self.directory else None,
            "environment": environment_value(self.environment, self.name) or None,
            "priority": self.priority,
            "autostart": "true",
            # `true` and not `unexpected`: a service that ends well has ended all the same
            "autorestart": str(self.is_restarted).lower(),
            "startsecs": self.start_seconds,
            "startretries": self.start_retries,
            "stopsignal": self.stop_signal,
            "stopwaitsecs": self.stop_wait_seconds,
            "stopasgroup": group,
            "killasgroup": group,
            "redirect_stderr": "true",
            "stdout_logfile": escape(str(self.log_file), self.name),
            "stdout_logfile_maxbytes": self.log_max_bytes,
            "stdout_logfile_backups": self.log_backups,
        }
        lines = [f"{key}={value}" for key, value in options.items() if value is not None]
        return "\n".join([f"[program:{self.name}]", *lines, ""])

    def _digest(self) -> str:
        """Return a short digest of what is started."""
        what = (self.command, sorted(self.environment.items()), str(self.directory))
        return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def socket_path(home: Path) -> Path:
    """Return where supervisord listens: in its home, or, if that is too long for a socket, in a
    folder of this user below the one for runtime or for temporary files, under a digest of the
    home.

    Raises:
        ConfigError: If somebody else has made that folder: its owner could listen there instead.
    """
    return short_socket(home / "supervisor.sock", home)


def short_socket(path: Path, named_after: Path | None = None) -> Path:
    """Return where a socket is for which there is a path: there, or where `socket_path` says, under
    a digest of the path or of what it is named after.
    """
    if _fits(path.absolute()):
        return path.absolute()
    digest = hashlib.sha256(os.fsencode((named_after or path).absolute())).hexdigest()
    name = digest[:16] + ".sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folders = [Path(place) / f"slipway-{os.geteuid()}" for place in (runtime, _SHORT_FOLDER)]
    return private_folder(next(one for one in folders if _fits(one / name))) / name


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES


def write_configuration(home: Path, programs: Iterable[Program]) -> Path:
    """Write supervisord's configuration for these programs and return its path.

    Programs of an earlier call that are not named again go; added ones (`Supervisor.add`) stay.
    """
    home = home.absolute()
    wanted = {f"{program.name}.conf": program for program in programs}
    for folder in (home / "conf.d", home / "added.d"):
        folder.mkdir(parents=True, exist_ok=True)
    for stale in (p for p in (home / "conf.d").glob("*.conf") if p.name not in wanted):
        stale.unlink()
    for name, program in wanted.items():
        write_program(home / "conf.d" / name, program)
    configuration = home / "supervisord.conf"
    write_atomically(configuration, _supervisord_section(home))
    return configuration


def descriptors() -> int:
    """Return how many files and connections a program that supervisord starts may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    return max(soft, most)


def _supervisord_section(home: Path) -> str:
    where = {
        "socket": socket_path(home),
        "log": home / "supervisord.log",
        "pid": home / "supervisord.pid",
    }
    escaped = {key: escape(str(path), "supervisord") for key, path in where.items()}
    return (
        f"[unix_http_server]\nfile={escaped['socket']}\nchmod=0600\n\n"
        f"[supervisord]\nlogfile={escaped['log']}\npidfile={escaped['pid']}\n"
        f"childlogdir={escape(str(home), 'supervisord')}\nidentifier=slipway\n"
        f"minfds={descriptors()}\n\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\n"
        f"[supervisorctl]\nserverurl=unix://{escaped['socket']}\n\n"
        # relative: supervisord splits this line at white space, which a home may contain
        "[include]\nfiles=conf.d/*.conf added.d/*.conf\n"
    )


def write_program(path: Path, program: Program) -> None:
    program.log_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, program.configuration(path.parent.parent))
    path.chmod(0o600)  # an environment may hold what other users should not read
