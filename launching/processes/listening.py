"""The socket of a warm parent: made under its name when it listens, removed by who made it."""

import contextlib
import os
import socket
from pathlib import Path

from launching.processes.fork_request import address

_BACKLOG = 128


def listen(path: Path) -> socket.socket:
    """Listen on a socket that only this user reaches; an earlier one of that path is replaced.

    The socket is there under its name when it listens, not before.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine = path.with_name(f"{os.getpid()}.sock")
    folder, where = address(mine)
    before = os.umask(0o177)
    try:
        mine.unlink(missing_ok=True)
        listener.bind(where)
        listener.listen(_BACKLOG)
        mine.rename(path)
    finally:
        os.umask(before)
        os.close(folder)
    listener.setblocking(False)
    return listener


def remove_own(path: Path, inode: int) -> None:
    """Remove the socket, unless a later parent listens there by now, and its folder if empty."""
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()
            path.parent.rmdir()  # its owner, who has made it, may have been killed
