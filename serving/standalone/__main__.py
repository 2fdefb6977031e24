"""`python -m serving.standalone FLAGS`: serve as `tensorflow_model_server` does, until SIGTERM."""

import logging
import os
import sys
from collections.abc import Sequence

import numpy as np
import uvloop

from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, EXIT_USER_ERROR, SlipwayError
from serving.server.grpc.statuses import CallError
from serving.standalone.flags import parse
from serving.standalone.process import StandaloneServer

log = logging.getLogger("slipway")


def main(arguments: Sequence[str]) -> int:
    """Run the server; return the process's exit code (0 drained, 2 wrong flags, files, models)."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls its first loader old
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    flags = parse(arguments, os.environ.get("SLIPWAY_PROGRAM", "python -m serving.standalone"))
    np.seterr(all="ignore")  # what is not finite is an answer here
    try:
        uvloop.run(StandaloneServer(flags).run())
    except SlipwayError as error:
        log.error("Failed to start server. Error: %s", error)
        return error.exit_code
    except CallError as error:
        log.error("Failed to start server. Error: %s: %s", error.code.name, error)
        return EXIT_USER_ERROR
    except Exception:
        log.exception("unexpected")
        return EXIT_UNEXPECTED
    return EXIT_DONE


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    # At once: TensorFlow was seen to crash in its own tear-down, and loading cannot be interrupted.
    os._exit(code)
