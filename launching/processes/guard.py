"""Run one command, and end its whole process group when the process that started this is gone.

`python -I guard.py GRACE_SECONDS COMMAND...`, started as the leader of its own process group,
its standard input a pipe that the starter holds open. When that pipe closes, for whatever reason
(also `kill -9`), the group gets SIGTERM and, after the grace, SIGKILL. The exit code is the
command's, or 128 + signal. A warm parent's fork does the same with its own lifeline.

Standard library only: it costs each step some 20 ms.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

_LIFELINE = 0


def main() -> None:
    """Run the command line's command and exit with its code."""
    grace_seconds, command = float(sys.argv[1]), sys.argv[2:]
    outlive_sigterm()
    # Other descriptors are passed on: one of them is the lock that says that the command lives.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)
    sys.exit(look_after(child.pid, _LIFELINE, grace_seconds))


def outlive_sigterm() -> None:
    """Let SIGTERM, which the whole group gets, end the command and not its guard."""
    # A handler, not SIG_IGN: the command would inherit that.
    signal.signal(signal.SIGTERM, _do_nothing)


def look_after(pid: int, lifeline: int, grace_seconds: float) -> int:
    """Wait for a child process, end what it left behind, and return its exit code, 128 + signal.

    Args:
        lifeline: A descriptor; when its other end closes, the group of this process is ended.
    """
    threading.Thread(target=_watch, args=(lifeline, grace_seconds), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.killpg(0, signal.SIGTERM)
    return code if code >= 0 else 128 - code


def _watch(lifeline: int, grace_seconds: float) -> None:
    with contextlib.suppress(OSError):  # a socket that its starter left with unread answers
        while os.read(lifeline, 1):
            pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(grace_seconds)
    os.killpg(0, signal.SIGKILL)


def _do_nothing(signum: int, frame: FrameType | None) -> None:
    del signum, frame


if __name__ == "__main__":
    main()
