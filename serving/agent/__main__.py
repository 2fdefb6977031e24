"""`python -m serving.agent`: keep model servers and Envoy as the traffic plans say."""

import logging
import sys

from contract.errors import EXIT_DONE, SlipwayError
from serving.agent.agent import run_agent
from serving.agent.settings import parse


def main(arguments: list[str]) -> int:
    """Run until SIGTERM; return the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        run_agent(parse(arguments))
    except SlipwayError as error:
        logging.getLogger("slipway.agent").error("%s", error)
        return error.exit_code
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
