"""What demos share: a separate home, which is removed unless something did not end as expected."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.markup import escape

from cli.output import complain, notes, say
from contract.errors import EXIT_UNEXPECTED, SlipwayError
from contract.interrupts import terminated_like_interrupted
from contract.places import CODE_FOLDER

EXIT_INTERRUPTED = 130
_RUNTIME_FILE = CODE_FOLDER / "cli" / "demo" / "runtime.yaml"


def run_demo(play: Callable[[Path], int]) -> int:
    """Play a demo in its own home and return the exit code: 0 only if all ended as expected."""
    home = Path(tempfile.mkdtemp(prefix="slipway-demo-"))
    for name in [n for n in os.environ if n.startswith(("SLIPWAY_", "AIRFLOW_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ["SLIPWAY_HOME"] = str(home)
    os.environ["SLIPWAY_RUNTIME"] = str(_RUNTIME_FILE)
    code = EXIT_UNEXPECTED
    with terminated_like_interrupted(is_once=True):
        try:
            code = play(home)
            _ignore_signals()
        except SlipwayError as error:
            complain(error)
        except KeyboardInterrupt:
            say("Interrupted.")
            code = EXIT_INTERRUPTED
        finally:
            _clean_up(home, is_kept=code == EXIT_UNEXPECTED)
    return code


def _clean_up(home: Path, *, is_kept: bool) -> None:
    from cli.stack.launch import stop

    _ignore_signals()
    with notes.status("Stopping the services"):
        stop(home / "supervisor")
    if is_kept:
        say(f"Kept for inspection: {escape(str(home))}")
    else:
        shutil.rmtree(home, ignore_errors=True)


def _ignore_signals() -> None:
    """Let no signal cut the clean-up short, nor change the exit code after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
