"""Messages between the processes of one training: a JSON head and raw arrays, over TCP.

TensorFlow's own gRPC servers are not used: a process that waits inside one of them can neither be
told why it waits nor be made to stop. Here every wait ends: by the answer, by the other side's end,
or after a time, and then names the other side.
"""

import contextlib
import json
import math
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
_MAX_AXES = 32
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_DTYPES = {  # of numbers only: nothing that holds Python objects
    **{name: np.dtype(name) for name in ("bool", *_INTEGERS, "float16", "float32", "float64")},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


class PeerError(SlipwayError):
    """Another process of the training is gone, is silent, or said something unexpected."""


class PeerGoneError(PeerError):
    """Its connection has ended."""


@dataclass(frozen=True)
class Limits:
    """How large a message may be: its head, and all of its arrays together."""

    head_bytes: int
    array_bytes: int


STRANGER = Limits(head_bytes=4096, array_bytes=0)  # who has not proven yet to be of the job
PEER = Limits(head_bytes=64 << 20, array_bytes=64 << 30)


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
        self._deadline: float | None = None
        self._sending = threading.Lock()

    def set_timeout(self, seconds: float | None) -> None:
        """Let a wait for the other side end after this time; None: never."""
        self._deadline = None
        self._tcp.settimeout(seconds)

    def set_deadline(self, seconds: float) -> None:
        """Let all that is still to be heard end after this time, however slowly it comes."""
        self._tcp.settimeout(seconds)
        self._deadline = time.monotonic() + seconds

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

    def receive(self, limits: Limits = PEER) -> Message:
        """Wait for the next message.

        Raises:
            PeerError: If the other side is gone, silent for too long, or does not say what a
                process of a training says. Nothing is read, or reserved, that exceeds the limits.
        """
        (length,) = _HEAD.unpack(self._read(_HEAD.size))
        try:
            if length > limits.head_bytes:
                raise ValueError(f"a head of {length} bytes, at most {limits.head_bytes}")
            kind, fields, arrays = _head(self._read(length), limits)
        except (ValueError, RecursionError) as error:
            raise PeerError(f"{self.peer} sent no message of a training: {error}") from error
        for array in arrays:
            self.receive_into(array)
        return Message(kind, fields, arrays)

    def send_array(self, array: Array) -> None:
        """Send an array's bytes alone: the other side knows what comes."""
        with self._sending, self._errors("send to"):
            self._tcp.sendall(_as_bytes(array))

    def receive_into(self, array: Array) -> None:
        """Fill a contiguous array with bytes that come."""
        view = _as_bytes(array)
        with self._errors("hear from"):
            while len(view):
                if self._deadline is not None and time.monotonic() > self._deadline:
                    raise TimeoutError
                count = self._tcp.recv_into(view)
                if count == 0:
                    raise PeerGoneError(f"{self.peer} is gone: it closed its connection")
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
            raise PeerGoneError(f"{self.peer} is gone: {error.strerror or error}") from error


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


def _head(text: bytes, limits: Limits) -> tuple[str, dict[str, Any], tuple[Array, ...]]:
    """Return what a head announces: kind, fields, and memory for the arrays.

    Raises:
        ValueError: If it is none.
    """
    head = json.loads(text)
    names = ("kind", "fields", "arrays")
    parts: list[Any] = [head.get(name) for name in names] if type(head) is dict else []
    if [type(part) for part in parts] != [str, dict, list]:
        raise ValueError(f"expected kind, fields and arrays, found {text[:80]!r}")
    kind, fields, announced = parts
    kinds = [_dtype_and_shape(one) for one in announced]
    size = sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds)
    if size > limits.array_bytes:
        raise ValueError(f"arrays of {size} bytes, at most {limits.array_bytes}")
    try:
        return kind, fields, tuple(np.empty(shape, dtype) for dtype, shape in kinds)
    except MemoryError as error:
        raise ValueError(f"arrays of {size} bytes, for which there is no memory") from error


def _dtype_and_shape(announced: Any) -> tuple["np.dtype[Any]", tuple[int, ...]]:
    if type(announced) is not list or [type(one) for one in announced] != [str, list]:
        raise ValueError(f"expected dtype and shape of an array, found {str(announced)[:80]!r}")
    name, shape = announced
    if name not in _DTYPES:
        raise ValueError(f"expected the dtype of numbers, found {name[:40]!r}")
    if len(shape) > _MAX_AXES or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"expected the shape of an array, found {str(shape)[:80]}")
    return _DTYPES[name], tuple(shape)
