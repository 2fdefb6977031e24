"""The demo's stand-in for users: a process that replays test rows against the data plane."""

import json
import subprocess
import sys
import threading
from pathlib import Path

from contract.errors import ServiceUnavailableError
from contract.layout import RunLayout
from contract.loader import state_folder
from contract.places import CODE_FOLDER
from contract.records.package import LoadReport

REQUESTS_PER_SECOND = 800
POLL_SECONDS = 0.5
LEAVE_SECONDS = 30.0


class Callers:
    """`slipway replay` in the background, from a run's finished package until `leave`.

    Not earlier: on a machine of two cores they would only slow the training down.
    """

    def __init__(self, run: RunLayout, rows: Path) -> None:
        self._run, self._rows = run, rows
        self._log = state_folder() / "logs" / "callers.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._come, daemon=True)
        self._thread.start()

    def leave(self) -> LoadReport | None:
        """End the replay and return what the callers saw; None if they never came.

        Raises:
            ServiceUnavailableError: If the replay had ended by itself, or does not end.
        """
        self._is_over.set()
        self._thread.join()
        if self._process is None:
            return None
        self._process.terminate()
        try:
            output, _ = self._process.communicate(timeout=LEAVE_SECONDS)
            return LoadReport.model_validate(json.loads(output))
        except (subprocess.TimeoutExpired, ValueError) as error:
            self._process.kill()
            raise ServiceUnavailableError(
                f"the demo's stand-in for users did not report; its log: {self._log}"
            ) from error

    def _come(self) -> None:
        while not self._run.result("package").exists():
            if self._is_over.wait(POLL_SECONDS):
                return
        command = [sys.executable, "-m", "cli.main", "replay", self._run.pipeline]
        command += ["--rate", str(REQUESTS_PER_SECOND), "--file", str(self._rows), "--json"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, cwd=CODE_FOLDER, start_new_session=True
            )
