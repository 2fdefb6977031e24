"""Become a program, after what its last start has left behind is ended.

`python -I alone.py FILE all|idle|after:URL,URL COMMAND...`: supervisord makes each program the
leader of a process group, which outlives a leader that was killed: a worker may keep the program's
port, or wait for work that will never come. FILE holds the group of the last start. Its members are
ended: all of them, or those that are idle: workers without a child process. Then this process notes
its own group and becomes the command.

A program whose supervisord was killed still runs, and serves. With `after:` it serves on until the
first URL answers, which another program does that was started again at the same time, and the
second, which tells what it has under way (`name: number`, in lines), shows zeros.

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

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_GRACE_SECONDS = 3.0
_POLL_SECONDS = 0.05
_HAND_OVER_SECONDS = 20.0
_ANSWER_SECONDS = 2.0
_HTTP_OK = 200
_AFTER = "after:"
_FIELDS = (1, 2, 3, 19)  # of /proc/PID/stat after the name: parent, group, session, start


# A living process: pid, parent, group, session, and its start in clock ticks after the boot.
Process = tuple[int, int, int, int, int]
# The leader of a process group or session, as it was noted: pid, start, session.
Leader = tuple[int, int, int]
_PROC = Path("/proc")


def main() -> None:
    """End the last start's remains, and become the command line's command."""
    file, which, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    with contextlib.suppress(OSError, ValueError):  # whatever is wrong here, the program starts
        if (leader := noted(file)) is not None:
            if which.startswith(_AFTER) and is_running(leader):
                _let_serve(leader, *which.removeprefix(_AFTER).split(","))
                end(lambda: _group(leader))
            end(lambda: _idle(leader) if which == "idle" else of_group(leader))
        note(file, os.getpgrp())
    os.execvp(command[0], command)


def note(file: Path, pid: int) -> None:
    """Write down the living leader of a process group or a session of this boot."""
    if (one := _read(_PROC / str(pid))) is not None:
        _, _, _, session, started = one
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{_boot()} {pid} {started} {session}", encoding="utf-8")


def noted(file: Path) -> Leader | None:
    """Return what was noted in this boot: numbers of an earlier one are other processes' now."""
    if not file.exists():
        return None
    boot, *numbers = file.read_text(encoding="utf-8").split() or [""]
    if boot != _boot() or len(numbers) != len(("pid", "started", "session")):
        return None
    pid, started, session = map(int, numbers)
    return pid, started, session


def is_running(leader: Leader) -> bool:
    """Tell whether this very process runs."""
    one = _read(_PROC / str(leader[0]))
    return one is not None and (one[0], one[4], one[3]) == leader


def of_group(leader: Leader) -> list[int]:
    """Return this user's processes of a group whose leader is gone."""
    return [] if _read(_PROC / str(leader[0])) else _group(leader)


def of_running(leader: Leader) -> list[int]:
    """Return a leader that runs, with the others of its group."""
    return _group(leader) if is_running(leader) else []


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


def _let_serve(leader: Leader, successor: str, under_way: str) -> None:
    """Return when the successor answers and nothing is under way, or it takes too long."""
    for is_so in (lambda: _said(successor) is not None, lambda: not _is_busy(_said(under_way))):
        deadline = time.monotonic() + _HAND_OVER_SECONDS
        while is_running(leader) and not is_so() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _is_busy(said: str | None) -> bool:
    """Tell whether a number in lines as `name: 3` is not zero; not where nobody says."""
    numbers = [line.rpartition(":")[2].strip() for line in (said or "").splitlines()]
    return any(number not in ("", "0") for number in numbers)


def _said(url: str) -> str | None:
    """Return what a URL answers; None where it does not answer well."""
    from http.client import HTTPConnection, HTTPException  # seldom, and slow to import
    from urllib.parse import urlsplit

    place = urlsplit(url)
    connection = HTTPConnection(place.netloc, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", url.removeprefix(f"http://{place.netloc}"))
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == _HTTP_OK else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


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
