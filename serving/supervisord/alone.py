"""Become a program, after what its last start has left behind is ended; or adopt the program.

`python -I alone.py FILE all|idle|adopt:DIGEST:SECONDS COMMAND...`: supervisord makes each program
the leader of a process group, which outlives a leader that was killed: a worker may keep the
program's port, or wait for work that will never come. FILE holds the group of the last start. Its
members are ended: all of them, or those that are idle: workers without a child process. Then this
process notes its own group and becomes the command.

A program whose supervisord was killed still runs, and serves. With `adopt:` the next supervisord's
process keeps it: it passes signals on, ends it by SIGKILL the given seconds after a signal to stop,
and ends as it ends. A program that another command or environment (DIGEST) started is ended, and so
is one that the same supervisord starts again.

A number is given again once nobody has it, as a process, a group or a session. So a note holds the
leader's start, too, and its session: a group of that number in another session is somebody else's.

Standard library only, and no other module of ours: it costs each start some 15 ms.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_GRACE_SECONDS = 3.0
_POLL_SECONDS = 0.05
_ADOPT = "adopt:"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_PASSED_ON = _STOPPING | {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
_UNKNOWN_END = 1  # only its parent learns how a process has ended
_FIELDS = (1, 2, 3, 19)  # of /proc/PID/stat after the name: parent, group, session, start


# A living process: pid, parent, group, session, and its start in clock ticks after the boot.
Process = tuple[int, int, int, int, int]
# The leader of a process group or session, as it was noted: pid, start, session.
Leader = tuple[int, int, int]
_PROC = Path("/proc")


def main() -> None:
    """Keep the last start's program, or end its remains and become the command line's command."""
    file, which, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    digest, _, seconds = which.removeprefix(_ADOPT).partition(":")
    with contextlib.suppress(OSError, ValueError):  # whatever is wrong here, the program starts
        if (leader := noted(file)) is not None:
            if which.startswith(_ADOPT) and is_running(leader):
                started_by, started_as = _origin(file)
                if started_as == digest and started_by not in ("", _parent()):
                    _keep(leader, file, digest, float(seconds))
                end(lambda: _group(leader))
            end(lambda: _idle(leader) if which == "idle" else of_group(leader))
        note(file, os.getpgrp(), digest if which.startswith(_ADOPT) else "")
    os.execvp(command[0], command)


def note(file: Path, pid: int, digest: str = "") -> None:
    """Write down the living leader of a process group or a session of this boot.

    Args:
        digest: Of what it was started as, for one that may be adopted.
    """
    if (one := _read(_PROC / str(pid))) is not None:
        _, _, _, session, started = one
        file.parent.mkdir(parents=True, exist_ok=True)
        origin = f" {_parent()} {digest}" if digest else ""
        written = file.parent.parent / f".{file.name}.{os.getpid()}"  # no note of a program
        try:
            written.write_text(f"{_boot()} {pid} {started} {session}{origin}", encoding="utf-8")
            written.replace(file)
        finally:
            written.unlink(missing_ok=True)


def noted(file: Path) -> Leader | None:
    """Return what was noted in this boot: numbers of an earlier one are other processes' now."""
    if not file.exists():
        return None
    boot, *numbers = file.read_text(encoding="utf-8").split() or [""]
    if boot != _boot() or len(numbers) < len(("pid", "started", "session")):
        return None
    pid, started, session = map(int, numbers[:3])
    return pid, started, session


def adoptable_as(file: Path) -> str:
    """Return the digest of what a noted program was started as; empty if it cannot be adopted."""
    return _origin(file)[1]


def is_running(leader: Leader) -> bool:
    """Tell whether this very process runs."""
    one = _read(_PROC / str(leader[0]))
    return one is not None and (one[0], one[4], one[3]) == leader


def of_group(leader: Leader) -> list[int]:
    """Return this user's processes of a group whose leader is gone."""
    return [] if _read(_PROC / str(leader[0])) else _group(leader)


def of_running(leader: Leader) -> list[int]:
    """Return a leader that runs, with its group and what else writes into its log.

    A fork of the warm parent is in another group and session. The leader's log is a pipe that
    supervisord made for this start, so nobody else's.
    """
    if not is_running(leader):
        return []
    log = _log_of(leader[0])
    writers = [pid for pid, *_ in _processes() if _log_of(pid) == log] if log else []
    return sorted({*_group(leader), *writers})


def of_session(leader: Leader, groups: Collection[Leader] = ()) -> list[int]:
    """Return this user's processes of a session whose leader is gone.

    Args:
        leader: Of the session.
        groups: Leaders of groups that began in it. While one of these processes lives, the
            session's number cannot have been given again: all of the session are its own. Without
            one, only what is in these groups is known to be.
    """
    if _read(_PROC / str(leader[0])):
        return []
    members = [one for one in _processes() if one[3] == leader[2]]
    began_in_it = {group for group in groups if group[2] == leader[2]}
    is_own = any((pid, started, session) in began_in_it for pid, _, _, session, started in members)
    numbers = {number for number, _, _ in began_in_it}
    return [pid for pid, _, group, _, _ in members if is_own or group in numbers]


def ask_to_stop(leader: Leader) -> None:
    """Send SIGTERM to a leader's group; does not wait."""
    _signal(_living(_group(leader)), signal.SIGTERM)


def end(find: Callable[[], list[int]], grace_seconds: float = _GRACE_SECONDS) -> None:
    """End what `find` returns: by SIGTERM, and after the grace by SIGKILL.

    What it has returned once is remembered: who told whose they are may end first.
    """
    deadline = time.monotonic() + grace_seconds
    found = _living(find())
    _signal(found, signal.SIGTERM)
    while found := (found & _living()) | _living(find()):
        if time.monotonic() > deadline:
            _signal(found, signal.SIGKILL)
            return
        time.sleep(_POLL_SECONDS)


def _group(leader: Leader) -> list[int]:
    wanted = (leader[0], leader[2])
    return [pid for pid, _, group, session, _ in _processes() if (group, session) == wanted]


def _origin(file: Path) -> tuple[str, str]:
    """Return which supervisord has started or adopted a noted program, and as what."""
    words = file.read_text(encoding="utf-8").split() if file.exists() else []
    _, _, _, _, *origin = words if len(words) == 6 else [""] * 6
    return origin[0], origin[1]


def _parent() -> str:
    """Return this process's parent: its number and its start."""
    one = _read(_PROC / str(os.getppid()))
    return f"{os.getppid()}:{one[4]}" if one else ""


def _keep(leader: Leader, file: Path, digest: str, stop_seconds: float) -> NoReturn:
    """Be the program for this supervisord: pass signals on, and end as the leader ends.

    When supervisord is killed, this process ends and the program runs on.
    """
    import ctypes  # seldom, and slow to import

    supervisor = _parent()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if _parent() != supervisor:
        sys.exit(_UNKNOWN_END)
    deadline: list[float] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        if number in _STOPPING and not deadline:
            deadline.append(time.monotonic() + stop_seconds)
        _signal(_living(_group(leader)), number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    said = f"adopted: process {leader[0]} of an earlier supervisord runs on; its log ends here"
    with contextlib.suppress(OSError):  # it is kept all the same, and never started beside itself
        note(file, leader[0], digest)
        os.write(1, f"{said}\n".encode())
    while is_running(leader):
        if deadline and time.monotonic() > deadline[0]:
            _signal(_living(_group(leader)), signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    end(lambda: of_group(leader))
    sys.exit(0 if deadline else _UNKNOWN_END)


def _log_of(pid: int) -> str:
    """Return the pipe that a process writes its output to; empty if it is no pipe."""
    try:
        where = str((_PROC / str(pid) / "fd" / "1").readlink())
    except OSError:
        return ""
    return where if where.startswith("pipe:") else ""


def _living(pids: Collection[int] | None = None) -> set[tuple[int, int]]:
    """Return pid and start of living processes: of these, or of all."""
    found = ((pid, started) for pid, _, _, _, started in _processes())
    return {one for one in found if pids is None or one[0] in pids}


def _signal(processes: Collection[tuple[int, int]], number: int) -> None:
    for pid, _ in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _idle(leader: Leader) -> list[int]:
    """Return what the gone leader has started, and that has started nothing itself."""
    members = set(of_group(leader))
    found = [(pid, parent) for pid, parent, *_ in _processes() if pid in members]
    parents = {parent for _, parent in found}
    return [pid for pid, parent in found if pid not in parents and parent not in members]


def _processes() -> Iterator[Process]:
    """Yield this user's living processes; none without /proc."""
    for folder in _PROC.glob("[0-9]*"):
        if (one := _read(folder)) is not None:
            yield one


def _read(folder: Path) -> Process | None:
    """Return the process of a folder in /proc; None if it has ended or is another user's."""
    with contextlib.suppress(OSError, ValueError):
        if folder.stat().st_uid == os.geteuid():
            # the name, in brackets, may hold anything
            words = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if words[0] not in ("Z", "X"):
                parent, group, session, started = (int(words[n]) for n in _FIELDS)
                return int(folder.name), parent, group, session, started
    return None


def _boot() -> str:
    return _BOOT.read_text(encoding="utf-8").strip() if _BOOT.exists() else ""


if __name__ == "__main__":
    main()
