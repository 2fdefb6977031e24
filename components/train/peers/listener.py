"""One port of a process: who calls there, and what for."""

import contextlib
import errno
import logging
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from components.train.peers.greeting import Caller, Credentials, greet, welcome
from components.train.peers.wire import (
    Connection,
    Message,
    PeerError,
    PeerGoneError,
    connect,
    listen,
)
from contract.errors import SlipwayError

_MAX_STRANGERS = 256  # connections that have not proven to be of the job; the oldest is closed
_TRIES = 4  # of a greeting that breaks off: a stranger's connections may have pushed it out
_PAUSE_SECONDS = 0.2

_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)

log = logging.getLogger("slipway")

Answer = Callable[[Connection, Message], None]
_Callers = queue.Queue[tuple[Connection, Message]]


class Listener:
    """Accepts connections and sorts them by the purpose that their greeting names.

    Who does not prove to be of the job is heard for some seconds, costs at most a few kilobytes
    and leaves nothing behind.
    """

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._socket = listen(address)
        self._credentials = credentials
        self._strangers: deque[Connection] = deque()
        self._answers: dict[str, Answer] = {}
        self._waiting: dict[tuple[str, str], _Callers] = {}
        self._lock = threading.Lock()
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def answer(self, purpose: str, answer: Answer) -> None:
        """Call `answer` in a separate thread for each connection of a purpose, those that have
        come already included.
        """
        with self._lock:
            self._answers[purpose] = answer
            early = [callers for (one, _), callers in self._waiting.items() if one == purpose]
        for callers in early:
            while not callers.empty():
                threading.Thread(target=answer, args=callers.get(), daemon=True).start()

    def take(self, purpose: str, peer: str, patience_seconds: float) -> Connection:
        """Wait for the connection of one peer.

        Raises:
            PeerError: If it does not come in time.
        """
        with self._lock:
            callers = self._waiting.setdefault((purpose, peer), queue.Queue())
        try:
            return callers.get(timeout=patience_seconds)[0]
        except queue.Empty:
            raise PeerError(f"{peer} did not connect within {patience_seconds:g} s") from None

    def close(self) -> None:
        """Accept no more; the port is free again."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # or the thread in `accept` would keep it open
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                tcp, _ = self._socket.accept()
            except OSError as error:
                if error.errno not in _PASSING:
                    return
                time.sleep(_PAUSE_SECONDS)
                continue
            stranger = Connection(tcp, "?")
            with self._lock:
                self._strangers.append(stranger)
                oldest = self._strangers.popleft() if self._is_crowded() else None
            if oldest is not None:
                oldest.close()
            threading.Thread(target=self._sort, args=(stranger,), daemon=True).start()

    def _is_crowded(self) -> bool:
        return len(self._strangers) > _MAX_STRANGERS

    def _sort(self, connection: Connection) -> None:
        try:
            hello = welcome(connection, self._credentials)
        except PeerError as error:  # a port scan, a probe of the cluster, or an attack
            log.debug("train: a caller was turned away: %s", error)
            connection.close()
            return
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._strangers.remove(connection)
        purpose = str(hello.fields["purpose"])
        with self._lock:
            answer = self._answers.get(purpose)
            if answer is None:
                callers = self._waiting.setdefault((purpose, connection.peer), queue.Queue())
                callers.put((connection, hello))
        if answer is not None:
            answer(connection, hello)


def call(
    address: str, peer: str, credentials: Credentials, who: Caller, patience_seconds: float
) -> Connection:
    """Connect to another process of the job and say who calls.

    Raises:
        PeerError: If nobody listens there in time, or what does is not of the job.
        UserError: If it is of another job.
    """
    tries = 0
    while True:
        connection = connect(address, peer, patience_seconds)
        try:
            greet(connection, credentials, who, patience_seconds)
            return connection
        except SlipwayError as error:
            connection.close()
            tries += 1
            if tries == _TRIES or not isinstance(error, PeerGoneError):
                raise
        time.sleep(_PAUSE_SECONDS)
