"""Where services answer: the variables that tell it, headers, models by REST, the agent's pages."""

import ipaddress
from urllib.parse import urlsplit

# The variables that tell components and operators where services answer.
DATA_PLANE_URL = "SLIPWAY_DATA_PLANE_URL"
AGENT_URL = "SLIPWAY_AGENT_URL"
AGENT_TOKEN_FILE = "SLIPWAY_AGENT_TOKEN_FILE"
AIRFLOW_URL = "SLIPWAY_AIRFLOW_URL"
TRACKING_URI = "MLFLOW_TRACKING_URI"  # MLflow's own

# A header of calls to the agent: who steers the trial. Each call with it renews the trial's lease.
AUTHOR_HEADER = "x-slipway-author"

# A header of a model server's answers: the version that has answered.
VERSION_HEADER = "x-slipway-version"

LOOPBACK = "127.0.0.1"


def served_at(data_plane: str, pipeline: str, version: int | None = None) -> str:
    """Return where a version answers, or without one the version in service.

    Args:
        data_plane: Its address, as in `http://127.0.0.1:8080`; empty if nobody has said it: then
            the result is, too.
    """
    if not data_plane:
        return ""
    path = f"{data_plane.rstrip('/')}/v1/models/{pipeline}"
    return path if version is None else f"{path}/versions/{version}"


def is_of_this_machine(url: str) -> bool:
    """Tell whether a URL is of the loopback, to which no proxy leads."""
    return is_loopback(urlsplit(url).hostname or "")


def is_loopback(host: str) -> bool:
    """Tell whether only processes of this machine reach a host; another name may be any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def rollout_page(agent: str, pipeline: str) -> str:
    """Return the page of a pipeline's rollout, below the agent's address; empty without one."""
    return f"{agent.rstrip('/')}/rollouts/{pipeline}" if agent else ""
