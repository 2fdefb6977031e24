"""Messages between the processes of one training: a JSON head and raw arrays, over TCP.

TensorFlow's own gRPC servers are not used: a process that waits inside one of them can neither be
told why it waits nor be made to stop. Here every wait ends: by the answer, by the other side's end,
or after a time, and then names the other side.
"""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from contract.errors import SlipwayError

Array = npt.NDArray[Any]

_HEAD = struct.Struct("!I")
_BUFFER_BYTES = 4 << 20
_RETRY_SECONDS = 0.1
_LOOPBACK = ("127.0.0.1", "localhost")


class PeerError(SlipwayError):
    """Another process of the training is gone, is silent, or said something unexpected."""


@dataclass(frozen=True)
class Message:
    """What one process tells another."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: tuple[Array, ...] = ()


class Connection:
    """One TCP connection to a named process; several threads may send, one receives."""

    def __init__(self, tcp: socket.socket, peer: str) -> None:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                tcp.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self.peer = peer
        self._tcp = tcp
        self._sending = threading.Lock()

    def set_timeout(self, seconds: float | None) -> None:
        """Let a wait for the other side end after this time; None: never."""
        self._tcp.settimeout(seconds)

    def send(
        self, kind: str, fields: Mapping[str, Any] | None = None, arrays: Sequence[Array] = ()
    ) -> None:
        """Send one message.

        Raises:
            PeerError: If the other side is gone, or does not take it in time.
        """
        whole = [np.asarray(array, order="C") for array in arrays]
        kinds = [[array.dtype.name, list(array.shape)] for array in whole]
        text = json.dumps({"kind": kind, "fields": dict(fields or {}), "arrays": kinds}).encode()
        with self._sending, self._errors("send to"):
            self._tcp.sendall(_HEAD.pack(len(text)) + text)
            for array in whole:
                self._tcp.sendall(_as_bytes(array))

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            PeerError: If the other side is gone, or silent for too long.
        """
        (length,) = _HEAD.unpack(self._read(_HEAD.size))
        head = json.loads(self._read(length))
        arrays = []
        for name, shape in head["arrays"]:
            array = np.empty(shape, _dtype(name))
            self.receive_into(array)
            arrays.append(array)
        return Message(head["kind"], head["fields"], tuple(arrays))

    def send_array(self, array: Array) -> None:
        """Send an array's bytes alone: the other side knows what comes."""
        with self._sending, self._errors("send to"):
            self._tcp.sendall(_as_bytes(array))

    def receive_into(self, array: Array) -> None:
        """Fill a contiguous array with bytes that come."""
        view = _as_bytes(array)
        with self._errors("hear from"):
            while len(view):
                count = self._tcp.recv_into(view)
                if count == 0:
                    raise PeerError(f"{self.peer} is gone: it closed its connection")
                view = view[count:]

    def close(self) -> None:
        """Close it; every wait on it, here or on the other side, ends with a PeerError."""
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()

    def _read(self, count: int) -> bytes:
        buffer = np.empty(count, np.uint8)
        self.receive_into(buffer)
        return buffer.tobytes()

    @contextlib.contextmanager
    def _errors(self, what: str) -> Any:
        try:
            yield
        except TimeoutError as error:
            seconds = self._tcp.gettimeout()
            raise PeerError(f"could not {what} {self.peer} for {seconds:g} s") from error
        except OSError as error:
            raise PeerError(f"{self.peer} is gone: {error.strerror or error}") from error


def listen(address: str) -> socket.socket:
    """Listen on the port of `host:port`; on the loopback alone, if that is the host.

    Raises:
        PeerError: If the port is taken.
    """
    host, port = address.rsplit(":", 1)
    own = host if host in _LOOPBACK else ""  # a pod's name may not resolve inside the pod
    try:
        return socket.create_server((own, int(port)), backlog=1024)
    except OSError as error:
        raise PeerError(f"cannot listen on port {port}: {error.strerror}") from error


def connect(address: str, peer: str, patience_seconds: float) -> Connection:
    """Connect to a process that may not have begun to listen yet.

    Raises:
        PeerError: If it does not listen within `patience_seconds`.
    """
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            tcp = socket.create_connection((host, int(port)), timeout=5.0)
        except OSError as error:
            if time.monotonic() > deadline:
                raise PeerError(
                    f"{peer} does not listen at {address} after {patience_seconds:g} s: {error}"
                ) from error
            time.sleep(_RETRY_SECONDS)
        else:
            tcp.settimeout(None)
            return Connection(tcp, peer)


def _as_bytes(array: Array) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def _dtype(name: str) -> npt.DTypeLike:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
