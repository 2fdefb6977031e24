"""`python -m serving.server --package DIR --port P`: serve one package until SIGTERM."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import uvloop

from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, SlipwayError
from serving.server.http.targets import DEFAULT_LABELS
from serving.server.process import ModelServer, Options

log = logging.getLogger("slipway")


def main(arguments: Sequence[str]) -> int:
    """Run the server; return the process's exit code (0 drained, 2 wrong package or options)."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    options = parse(arguments)
    np.seterr(all="ignore")  # what is not finite is looked for and answered, not warned about
    try:
        uvloop.run(ModelServer(options).run())
    except SlipwayError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception:
        log.exception("server: unexpected")
        return EXIT_UNEXPECTED
    return EXIT_DONE


def parse(arguments: Sequence[str], program: str = "python -m serving.server") -> Options:
    """Read the command line; `--help` and errors end the process as argparse does."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="folder with package.json")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one and logs it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--grpc-port", type=int, help="serve gRPC, too; 0 takes a free one")
    parser.add_argument("--grpc-socket", type=Path, help="serve gRPC at a Unix socket of this name")
    parser.add_argument("--predictions", type=Path, help="folder for the prediction log")
    parser.add_argument("--token-file", type=Path, help="file with the token callers must send")
    parser.add_argument("--certificate", type=Path, help="PEM file: serve TLS")
    parser.add_argument("--key", type=Path, help="PEM file with the certificate's key")
    parser.add_argument(
        "--leave-seconds",
        type=float,
        default=0.0,
        help="least time between SIGTERM and the port's end, for callers who cannot know yet",
    )
    parser.add_argument(
        "--label",
        action="append",
        dest="labels",
        metavar="NAME",
        help="answer /labels/NAME too; may be repeated; 'stable' if none is given",
    )
    found = vars(parser.parse_args(arguments))
    return Options(**{**found, "labels": tuple(found["labels"] or DEFAULT_LABELS)})


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    # At once: TensorFlow was seen to crash in its own tear-down, and loading cannot be interrupted.
    os._exit(code)
