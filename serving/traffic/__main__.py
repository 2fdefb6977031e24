"""`python -m serving.traffic`: become an Envoy that asks the serving agent what to do."""

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from contract.errors import SlipwayError
from contract.tokens import read_token
from serving.traffic.backend import Endpoint
from serving.traffic.envoy.binary import envoy_binary
from serving.traffic.envoy.bootstrap import fleet_bootstrap
from serving.traffic.envoy.edge import EdgeLimits


def main(arguments: Sequence[str]) -> NoReturn:
    """Write the bootstrap and replace this process by Envoy.

    Raises:
        SystemExit: If that cannot be done: code 2, and why on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.traffic", description=__doc__)
    parser.add_argument("--agent", required=True, help="HOST:PORT of the serving agent")
    parser.add_argument("--agent-token-file", type=Path, required=True, help="the agent's token")
    parser.add_argument("--host", required=True, help="this Envoy's address, for the agent")
    parser.add_argument("--stats-port", type=int, default=9902, help="where it shows its counters")
    parser.add_argument("--max-connections", type=int, default=10_000, help="of all callers")
    parser.add_argument("--max-heap-mib", type=int, default=384, help="memory that it may take")
    options = parser.parse_args(arguments)
    host, _, port = options.agent.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"--agent: expected HOST:PORT, found '{options.agent}'")
    try:
        token = read_token(options.agent_token_file)
        binary = envoy_binary()
    except (OSError, SlipwayError) as error:
        parser.error(str(error))
    own, agent = Endpoint(options.host, options.stats_port), Endpoint(host, int(port))
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = EdgeLimits(options.max_connections, options.max_heap_mib)
    if descriptors != resource.RLIM_INFINITY:
        limits = limits.within(descriptors)
    document = fleet_bootstrap(own, agent, token, limits)
    path = Path(tempfile.mkdtemp(prefix="envoy-")) / "bootstrap.json"  # a folder for us alone
    path.write_text(json.dumps(document), encoding="utf-8")
    quiet = ("--disable-hot-restart", "--log-level", "warning")
    os.execv(binary, (binary, "-c", str(path), *quiet))


if __name__ == "__main__":
    main(sys.argv[1:])
