"""Run one command, and end its whole process group when whoever started this is gone.

`python -I guard.py GRACE_SECONDS COMMAND...`, started as the leader of a process group of its own,
its standard input a pipe that the starter holds open. When that pipe closes, for whatever reason
(also `kill -9`), the group gets SIGTERM and, after the grace, SIGKILL. The exit code is the
command's, or 128 + signal.

Standard library only: it costs each step some 20 ms.
"""

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
    # A handler, not SIG_IGN: the command would inherit that.
    signal.signal(signal.SIGTERM, _outlive_the_command)
    # Other descriptors are passed on: one of them is the lock that says that the command lives.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)
    threading.Thread(target=_watch, args=(grace_seconds,), daemon=True).start()
    code = child.wait()
    os.killpg(0, signal.SIGTERM)  # what the command left behind
    sys.exit(code if code >= 0 else 128 - code)


def _watch(grace_seconds: float) -> None:
    while os.read(_LIFELINE, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(grace_seconds)
    os.killpg(0, signal.SIGKILL)


def _outlive_the_command(signum: int, frame: FrameType | None) -> None:
    del signum, frame


if __name__ == "__main__":
    main()
