"""Calls of supervisord over its unix socket, by its own transport; its faults become our errors."""

import http.client
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from contract.errors import NotFoundError, ServiceUnavailableError

# Longer than any program may take to stop: some calls wait for that.
_TIMEOUT_SECONDS = 120.0


def call(path: Path, method: str, *arguments: Any, tolerated: tuple[int, ...] = ()) -> Any:
    """Call a method; a tolerated fault gives None.

    Raises:
        NotFoundError: If supervisord knows no program of that name.
        ServiceUnavailableError: If nobody answers on the socket, or for any other fault.
    """
    try:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(path)) as proxy:
            return getattr(proxy, method)(*arguments)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode in tolerated:
            return None
        if fault.faultCode == Faults.BAD_NAME:
            raise NotFoundError(f"supervisord: no program '{arguments[0]}'") from fault
        raise ServiceUnavailableError(
            f"supervisord ({path}): {method}{arguments}: {fault.faultString}"
        ) from fault
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
        raise ServiceUnavailableError(
            f"supervisord ({path}) does not answer: {error}; start it with 'slipway up'"
        ) from error


class _Transport(SupervisorTransport):
    """supervisor's own, which waits permanently, with a time limit."""

    _get_connection: Callable[[], http.client.HTTPConnection]  # set by supervisor's

    def __init__(self, path: Path) -> None:
        super().__init__(serverurl=f"unix://{path}")
        unlimited = self._get_connection

        def limited() -> http.client.HTTPConnection:
            connection = unlimited()
            connection.connect()
            connection.sock.settimeout(_TIMEOUT_SECONDS)
            return connection

        self._get_connection = limited
