"""A real browser without a screen, driven over its own protocol (Chrome DevTools)."""

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websocket import WebSocket, create_connection

PATIENCE_SECONDS = 180.0  # of a busy machine; everything that is waited for ends on a condition
Problems = defaultdict[str, list[str]]  # by session

_PROGRAM = "chromium-headless-shell"


class Tab:
    """One page of a browser."""

    def __init__(self, socket: WebSocket, session: str, problems: Problems) -> None:
        self._socket, self._session, self._number = socket, session, 0
        self._problems = problems
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the protocol and return its answer; what the page complains of is kept."""
        self._number += 1
        sent = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps({**sent, "sessionId": self._session}))
        while True:
            got = json.loads(self._socket.recv())
            self._note(got)
            if got.get("id") == self._number and got.get("sessionId") == self._session:
                assert "error" not in got, (method, got["error"])
                result: dict[str, Any] = got["result"]
                return result

    @property
    def problems(self) -> list[str]:
        """What the browser complained of: scripts that failed, what it did not load."""
        return self._problems[self._session]

    def run(self, script: str) -> Any:
        """Return what an expression gives, promises awaited."""
        options = {"returnByValue": True, "awaitPromise": True}
        done = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in done, (script, done["exceptionDetails"])
        return done["result"].get("value")

    def open(self, address: str) -> None:
        """Open an address and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        self.until(
            f"location.href.startsWith({json.dumps(address)}) && document.readyState == 'complete'"
        )

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._holds(condition):
            assert time.monotonic() < end, (condition, self.run("document.body.innerText"))
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG file."""
        shown = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shown["data"]))

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.run(f"Boolean({condition})"))
        except AssertionError:  # the page is being left
            return False

    def _note(self, got: dict[str, Any]) -> None:
        """Keep a complaint, of whichever tab it is: all share one connection."""
        problems = self._problems[got.get("sessionId", "")]
        if got.get("method") == "Runtime.exceptionThrown":
            problems.append(json.dumps(got["params"]["exceptionDetails"]))
        if got.get("method") == "Log.entryAdded" and got["params"]["entry"]["level"] == "error":
            problems.append(got["params"]["entry"]["text"])


@contextmanager
def open_browser(folder: Path) -> Iterator[Callable[[], Tab]]:
    """Start a browser; yield a function that opens a tab with cookies of its own."""
    if shutil.which(_PROGRAM) is None:
        pytest.skip(f"no '{_PROGRAM}' on PATH (Debian: apt-get install {_PROGRAM})")
    options = ["--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    with subprocess.Popen(
        [_PROGRAM, *options, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            socket = _connected(process, folder / "DevToolsActivePort")
            problems: Problems = defaultdict(list)
            yield lambda: _new_tab(socket, problems)
            socket.close()
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # Debian's program is a script that starts it


def _connected(process: "subprocess.Popen[bytes]", port_file: Path) -> WebSocket:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (port_file.exists() and len(port_file.read_text().split()) == 2):
        assert process.poll() is None and time.monotonic() < end, "the browser did not start"
        time.sleep(0.02)
    port, path = port_file.read_text().split()
    address = f"ws://127.0.0.1:{port}{path}"
    return create_connection(address, timeout=PATIENCE_SECONDS, suppress_origin=True)


def _new_tab(socket: WebSocket, problems: Problems) -> Tab:
    def call(number: int, method: str, **parameters: Any) -> dict[str, Any]:
        socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (got := json.loads(socket.recv())).get("id") != number or "sessionId" in got:
            pass
        result: dict[str, Any] = got["result"]
        return result

    context = call(1, "Target.createBrowserContext")["browserContextId"]
    target = call(2, "Target.createTarget", url="about:blank", browserContextId=context)
    attached = call(3, "Target.attachToTarget", targetId=target["targetId"], flatten=True)
    return Tab(socket, attached["sessionId"], problems)
