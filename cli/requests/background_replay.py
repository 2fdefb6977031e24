"""`slipway replay` beside other work: a stand-in for users that ends with that work."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.errors import ServiceUnavailableError
from contract.places import CODE_FOLDER
from contract.records.package import LoadReport
from launching.processes import guard

_GRACE_SECONDS = 20.0


@contextmanager
def replaying(name: str, rate: float) -> Iterator[list[LoadReport]]:
    """Send test rows to what is in service until the block ends; then the list has the report.

    The replay also ends when this process does, however it ends.

    Raises:
        ServiceUnavailableError: If the replay had ended by itself, or does not report.
    """
    reports: list[LoadReport] = []
    replay = [sys.executable, "-m", "cli.main", "replay", name, "--rate", str(rate), "--json"]
    command = [sys.executable, "-I", str(Path(guard.__file__)), str(_GRACE_SECONDS), *replay]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=CODE_FOLDER,
            start_new_session=True,
        )
        try:
            yield reports
        finally:
            output = _end(process)
        try:
            reports.append(LoadReport.model_validate(json.loads(output)))
        except ValueError as error:
            said.seek(0)
            why = said.read().decode(errors="replace").strip()[-500:]
            raise ServiceUnavailableError(
                f"the replay of '{name}' did not report: {why}"
            ) from error


def _end(process: "subprocess.Popen[bytes]") -> bytes:
    """Close the guard's lifeline, which ends the replay, and return what it printed."""
    try:
        output, _ = process.communicate(timeout=2 * _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return output
