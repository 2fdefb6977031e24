"""The demo's end at a terminal: a line to try, until Ctrl-C."""

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios

from contract.places import CODE_FOLDER

SERVE = """
from pathlib import Path
from cli.demo.report import serve
from contract.records.stack import Stack
stack = Stack(root="/", data_plane_url="http://127.0.0.1:9")
serve(stack, "digits", Path("/a folder/request.json"))
print("over")
"""


def test_at_a_terminal_it_shows_a_line_to_try_and_waits_for_ctrl_c() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=CODE_FOLDER,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C finds it
    )
    os.close(theirs)
    said = ""
    while "cleans up" not in said:
        said += os.read(ours, 4096).decode()
    os.write(ours, b"\x03")
    while "over" not in said:
        if select.select([ours], (), (), 5.0)[0]:
            said += os.read(ours, 4096).decode()
        else:  # an interrupt that meets a destructor of Python's is lost
            os.write(ours, b"\x03")
    assert process.wait() == 0
    line = "curl -s http://127.0.0.1:9/v1/models/digits:predict -d @'/a folder/request.json'"
    assert line in said
