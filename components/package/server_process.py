"""A model server of one package, as a process on a free loopback port."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from components.runs.child_process import tied_to_parent
from contract.clients.http import open_client
from contract.errors import SlipwayError
from contract.free_ports import free_port
from contract.layout import PACKAGE_MANIFEST
from contract.places import CODE_FOLDER
from contract.programs import IMPORTED_MODEL_SERVER, MODEL_SERVER, warm_command
from contract.records.package import PackageManifest

HOST = "127.0.0.1"
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
_POLL_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class RunningServer:
    """A server that has been started; it may still be loading its model."""

    process: "subprocess.Popen[bytes]"
    port: int
    pipeline: str
    log: Path

    @property
    def predict_url(self) -> str:
        return f"http://{HOST}:{self.port}/v1/models/{self.pipeline}:predict"

    def wait_until_ready(self) -> None:
        """Wait until the model is loaded and warm.

        Raises:
            SlipwayError: If the server ends or is not ready within two minutes; with the last lines
                of its log.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if (code := self.process.poll()) is not None:
                raise SlipwayError(
                    f"the package's server ended with code {code}: {self.last_words()}"
                )
            if self._is_healthy():
                return
            time.sleep(_POLL_SECONDS)
        raise SlipwayError(
            f"the package's server was not ready within {_START_SECONDS:g} s: {self.last_words()}"
        )

    def metrics(self) -> str:
        """Return what it counts, in Prometheus's text format."""
        with open_client(f"http://{HOST}:{self.port}", _POLL_TIMEOUT_SECONDS) as http:
            return http.get("/metrics").raise_for_status().text

    def stop(self) -> None:
        """Let it drain and end; kill it if it does not."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(errors="replace", encoding="utf-8").strip().splitlines()
        return " | ".join(lines[-5:]) or "it said nothing"

    def _is_healthy(self) -> bool:
        try:
            with open_client(f"http://{HOST}:{self.port}", _POLL_TIMEOUT_SECONDS) as http:
                return http.get("/healthz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@contextmanager
def running_server(package: Path, log: Path) -> Iterator[RunningServer]:
    """Start a server on a package directory; it ends with the block, or with this process.

    Where this step is a fork of a warm parent, so is the server, as those are that the agent starts
    on this machine.
    """
    manifest = PackageManifest.read(package / PACKAGE_MANIFEST)
    port = free_port()
    command = warm_command(IMPORTED_MODEL_SERVER if manifest.is_imported else MODEL_SERVER)
    command += ["--package", str(package), "--port", str(port), "--host", HOST]
    with log.open("wb") as output:
        process = subprocess.Popen(
            tied_to_parent(command), cwd=CODE_FOLDER, stdout=output, stderr=output
        )
    server = RunningServer(process, port, manifest.pipeline, log)
    try:
        yield server
    finally:
        server.stop()
