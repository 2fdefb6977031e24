"""`python -m serving.standalone FLAGS`: serve as `tensorflow_model_server` does, until SIGTERM."""

import os
import sys
from collections.abc import Sequence

from serving.server.program import leave, quiet_tensorflow, run_program
from serving.standalone.flags import parse
from serving.standalone.process import StandaloneServer


def main(arguments: Sequence[str]) -> int:
    """Run the server; return the process's exit code (0 drained, 2 wrong flags, files, models)."""
    quiet_tensorflow()
    flags = parse(arguments, os.environ.get("SLIPWAY_PROGRAM", "python -m serving.standalone"))
    said = "Failed to start server. Error: %s"
    return run_program(lambda: StandaloneServer(flags), sys.stderr, said)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
