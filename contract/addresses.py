"""Where models answer, by TensorFlow Serving's REST API, and where the agent's pages are."""

import ipaddress
from urllib.parse import urlsplit

DATA_PLANE_URL = "SLIPWAY_DATA_PLANE_URL"  # the variable that tells it to components and operators
AGENT_URL = "SLIPWAY_AGENT_URL"  # the same for the serving agent


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
    """Tell whether an address is of the loopback, to which no proxy leads."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def rollout_page(agent: str, pipeline: str) -> str:
    """Return the page of a pipeline's rollout, below the agent's address; empty without one."""
    return f"{agent.rstrip('/')}/rollouts/{pipeline}" if agent else ""
