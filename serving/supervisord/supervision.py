"""The supervisord of one home: how it is started and stopped, and how one speaks to it.

supervisord owns every long-running process of a machine, so that Envoy and the model servers
outlive the process that started them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults

from contract.errors import ServiceUnavailableError
from serving.supervisord import alone
from serving.supervisord.configuration import Program, socket_path, write_program
from serving.supervisord.unix_rpc import call

_POLL_SECONDS = 0.05

# States of supervisor/process.py.
_ENDED_STATES = frozenset({"STOPPED", "EXITED", "FATAL"})


@dataclass(frozen=True)
class ProgramState:
    """What supervisord says of a program; `state` is supervisord's word (RUNNING, FATAL, ...).

    `pid` is the program's own, also where it was adopted. `process` tells one run of the program
    from the next, and stays when it is adopted; empty while none runs.
    """

    name: str
    state: str
    pid: int
    exit_status: int
    description: str
    log_file: Path
    process: str = ""


class Supervisor:
    """The supervisord of one home: start, stop, and change what it runs."""

    def __init__(self, home: Path, socket: Path | None = None) -> None:
        self.home = home.absolute()
        self.socket = socket or socket_path(home)

    def is_running(self) -> bool:
        """Tell whether supervisord answers on its socket."""
        try:
            return bool(self._call("getState")["statename"])
        except ServiceUnavailableError:
            return False

    def start(self, timeout_seconds: float = 10.0) -> None:
        """Start supervisord, or let a running one take over the changed configuration.

        Children that a killed supervisord left behind are ended first: nobody owns them. Those that
        it would start again as they were run on, and it adopts them.

        Raises:
            ServiceUnavailableError: If it does not answer in time; with its own last words.
        """
        if self.is_running():
            self.update()
            return
        self.end_orphans(timeout_seconds, spared=self.adoptable())
        configuration = self.home / "supervisord.conf"
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        started = subprocess.run(
            command, capture_output=True, text=True, check=False, encoding="utf-8", errors="replace"
        )
        if started.returncode != 0:
            raise ServiceUnavailableError(
                f"supervisord ({configuration}) did not start: {started.stderr.strip()[-500:]}"
            )
        self._wait(self.is_running, timeout_seconds, "supervisord does not answer")
        pid = int(self._call("getPID"))
        if os.getsid(pid) == pid:
            alone.note(self._session, pid)

    def stop(self, timeout_seconds: float = 90.0) -> None:
        """Stop every program, then supervisord; does nothing if it does not run."""
        if not self.is_running():
            self.end_orphans(timeout_seconds)
            return
        process = psutil.Process(self._call("getPID"))  # its number may be another's afterwards
        self._call("shutdown")
        self._wait(
            lambda: not _is_alive(process),
            timeout_seconds,
            "supervisord has not ended its programs",
        )
        # adopted ones, if their keeper ended before it could pass the signal on
        for leader in filter(None, map(alone.noted, (self.home / "groups").glob("*"))):
            alone.end(partial(alone.of_running, leader))

    def update(self) -> None:
        """Take over changed files: stop what is gone, restart what has changed, start the new."""
        (added, changed, removed), *_ = self._call("reloadConfig")
        for name in [*changed, *removed]:
            self._stop_and_forget(name)
        for name in [*added, *changed]:
            self._call("addProcessGroup", name, tolerated=(Faults.ALREADY_ADDED,))

    def add(self, program: Program) -> None:
        """Add a program to the running supervisord, which starts it; it survives restarts."""
        write_program(self.home / "added.d" / f"{program.name}.conf", program)
        self._call("reloadConfig")
        self._call("addProcessGroup", program.name, tolerated=(Faults.ALREADY_ADDED,))

    def remove(self, name: str) -> bool:
        """Ask an added program to stop and forget it once it has; True when it is gone.

        Does not wait: call again until True.
        """
        (self.home / "added.d" / f"{name}.conf").unlink(missing_ok=True)
        self.stop_program(name)
        state = self.states().get(name)
        if state is not None and state.state not in _ENDED_STATES:
            return False
        if (unkept := self._leader(name)) is not None:  # see `stop`
            alone.ask_to_stop(unkept)
            return False
        self._call("removeProcessGroup", name, tolerated=(Faults.BAD_NAME, Faults.STILL_RUNNING))
        (self.home / "groups" / name).unlink(missing_ok=True)
        return name not in self.states()

    def start_program(self, name: str) -> None:
        """Start a program that is stopped or given up; does not wait."""
        self._call("startProcess", name, False, tolerated=(Faults.ALREADY_STARTED,))

    def stop_program(self, name: str) -> None:
        """Ask a program to stop; does not wait."""
        self._call("stopProcess", name, False, tolerated=(Faults.BAD_NAME, Faults.NOT_RUNNING))

    def kill_program(self, name: str) -> None:
        """Kill a program by SIGKILL; it is started again where it is restarted at all."""
        self._call("signalProcess", name, "KILL", tolerated=(Faults.BAD_NAME, Faults.NOT_RUNNING))

    def states(self) -> dict[str, ProgramState]:
        """Return the state of every program by name."""
        found = self._call("getAllProcessInfo")
        return {info["group"]: _state_of(info, self._leader(info["group"])) for info in found}

    def _leader(self, name: str) -> alone.Leader | None:
        leader = alone.noted(self.home / "groups" / name)
        return leader if leader is not None and alone.is_running(leader) else None

    def _stop_and_forget(self, name: str) -> None:
        self._call("stopProcess", name, True, tolerated=(Faults.BAD_NAME, Faults.NOT_RUNNING))
        self._call("removeProcessGroup", name, tolerated=(Faults.BAD_NAME,))

    def _call(self, method: str, *arguments: Any, tolerated: tuple[int, ...] = ()) -> Any:
        return call(self.socket, f"supervisor.{method}", *arguments, tolerated=tolerated)

    def end_orphans(
        self, timeout_seconds: float = 10.0, spared: Collection[str] = ()
    ) -> frozenset[int]:
        """End what a supervisord that is gone has left behind, with what that has started.

        Programs that are `spared` stay, those of them that run; their process ids are returned.

        Its session tells what is its own, also where a program has overwritten its environment, as
        those do that change their title; supervisord's address in the environment tells those that
        have begun another session. The notes of what is ended go, too.
        """
        session = alone.noted(self._session)
        notes = {file: alone.noted(file) for file in (self.home / "groups").glob("*")}
        groups = [leader for leader in notes.values() if leader is not None]
        kept = {file: one for file, one in notes.items() if one and file.name in spared}
        stay = {file: alone.of_running(leader) for file, leader in kept.items()}
        address = f"unix://{self.socket}"
        own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}

        def orphans() -> list[int]:
            others = [p for p in psutil.process_iter() if p.pid not in own]
            named = {p.pid for p in others if _supervised_by(p) == address and _is_alive(p)}
            of_session = alone.of_session(session, groups) if session else ()
            return sorted((named | set(of_session)) - own.union(*stay.values()))

        alone.end(orphans, timeout_seconds)
        for file in (self._session, *(file for file in notes if not stay.get(file))):
            file.unlink(missing_ok=True)
        return frozenset().union(*stay.values())

    def adoptable(self) -> Collection[str]:
        """Return the programs that supervisord would start again as they were started."""
        found = []
        for file in (self.home / "groups").glob("*"):
            digest = alone.adoptable_as(file)
            places = [self.home / folder / f"{file.name}.conf" for folder in ("conf.d", "added.d")]
            texts = (place.read_text("utf-8") for place in places if place.exists())
            if digest and any(f" adopt:{digest}:" in text for text in texts):
                found.append(file.name)
        return found

    @property
    def _session(self) -> Path:
        return self.home / "session"

    def _wait(self, is_done: Callable[[], bool], timeout_seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not is_done():
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"{complaint} after {timeout_seconds:.0f} s; see {self.home}/supervisord.log"
                )
            time.sleep(_POLL_SECONDS)


def _state_of(info: Mapping[str, Any], leader: alone.Leader | None) -> ProgramState:
    pid, began = int(info["pid"]), str(info["start"])
    if pid and leader is not None:
        pid, began = leader[0], f"boot+{leader[1]}"
    return ProgramState(
        name=info["group"],
        state=info["statename"],
        pid=pid,
        exit_status=info["exitstatus"],
        description=info["spawnerr"] or info["description"],
        log_file=Path(info["stdout_logfile"]),
        process=f"{pid} {began}" if pid else "",
    )


def _supervised_by(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("SUPERVISOR_SERVER_URL", ""))
    except psutil.Error:
        return ""


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
