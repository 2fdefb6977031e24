"""What the programs of all servers do around their server: logs, exit codes, the end."""

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn, Protocol, TextIO

import numpy as np
import uvloop

from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, SlipwayError

log = logging.getLogger("slipway")


class Server(Protocol):
    """What a program runs."""

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""


def run_program(make: Callable[[], Server], output: TextIO, says: str = "%s") -> int:
    """Run a server until it has drained; return the process's exit code.

    Args:
        make: Makes the server.
        output: Where the log goes.
        says: How a wrong package, file or option is said.
    """
    logging.basicConfig(
        stream=output, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    np.seterr(all="ignore")  # what is not finite is looked for and answered, not warned about
    try:
        uvloop.run(make().run())
    except SlipwayError as error:
        log.error(says, error)
        return error.exit_code
    except Exception:
        log.exception("server: unexpected")
        return EXIT_UNEXPECTED
    return EXIT_DONE


def quiet_tensorflow() -> None:
    """Keep TensorFlow's notes out of the log; it calls its first loader old."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def leave(code: int) -> NoReturn:
    """End the process at once.

    TensorFlow was seen to crash in its own tear-down, and loading cannot be interrupted.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
