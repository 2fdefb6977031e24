"""`python -m serving.server --package DIR --port P`: serve one package until SIGTERM."""

import sys
from collections.abc import Sequence

from serving.server.options import parse
from serving.server.process import ModelServer
from serving.server.program import leave, run_program


def main(arguments: Sequence[str]) -> int:
    """Run the server; return the process's exit code (0 drained, 2 wrong package or options)."""
    options = parse(arguments, "python -m serving.server", __doc__)
    return run_program(lambda: ModelServer(options), sys.stdout)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
