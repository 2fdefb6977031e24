"""The demo's stand-in for users: a process that replays test rows against the data plane."""

import json
import subprocess
import sys
from pathlib import Path

from contract.errors import ServiceUnavailableError
from contract.loader import PROJECT, state_folder
from contract.records import LoadReport

REQUESTS_PER_SECOND = 400
LEAVE_SECONDS = 30.0


class Callers:
    """`slipway replay` in the background, until `leave`."""

    def __init__(self, pipeline: str, rows: Path) -> None:
        self._log = state_folder() / "logs" / "callers.log"
        command = [sys.executable, "-m", "cli.main", "replay", pipeline]
        command += ["--rate", str(REQUESTS_PER_SECOND), "--file", str(rows), "--json"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, cwd=PROJECT, start_new_session=True
            )

    def leave(self) -> LoadReport:
        """End the replay and return what the callers saw.

        Raises:
            ServiceUnavailableError: If the replay had ended by itself, or does not end.
        """
        self._process.terminate()
        try:
            output, _ = self._process.communicate(timeout=LEAVE_SECONDS)
            return LoadReport.model_validate(json.loads(output))
        except (subprocess.TimeoutExpired, ValueError) as error:
            self._process.kill()
            raise ServiceUnavailableError(
                f"the demo's stand-in for users did not report; its log: {Path(self._log)}"
            ) from error
