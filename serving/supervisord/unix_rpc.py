"""XML-RPC over a unix socket, as supervisord speaks it."""

import http.client
import socket
import xmlrpc.client
from enum import IntEnum
from pathlib import Path
from typing import Any

from contract.errors import NotFoundError, ServiceUnavailableError

# Longer than any program may take to stop: some calls wait for that.
_TIMEOUT_SECONDS = 120.0


class Fault(IntEnum):
    """The fault codes of supervisor/xmlrpc.py that mean something to us."""

    BAD_NAME = 10
    ALREADY_STARTED = 60
    NOT_RUNNING = 70
    ALREADY_ADDED = 90
    STILL_RUNNING = 91


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
        if fault.faultCode == Fault.BAD_NAME:
            raise NotFoundError(f"supervisord: no program '{arguments[0]}'") from fault
        raise ServiceUnavailableError(
            f"supervisord ({path}): {method}{arguments}: {fault.faultString}"
        ) from fault
    except (OSError, http.client.HTTPException) as error:
        raise ServiceUnavailableError(
            f"supervisord ({path}) does not answer: {error}; start it with 'slipway up'"
        ) from error


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002 - not ours
        return _Connection(self._path)
