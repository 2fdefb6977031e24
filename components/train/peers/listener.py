"""One port of a process: who calls there, and what for."""

import contextlib
import queue
import socket
import threading
from collections.abc import Callable

from components.train.peers.wire import Connection, Message, PeerError, connect, listen

_HELLO_SECONDS = 3.0  # for a caller to say who it is

Answer = Callable[[Connection, Message], None]
_Callers = queue.Queue[tuple[Connection, Message]]


class Listener:
    """Accepts connections and sorts them by the purpose that their first message names."""

    def __init__(self, address: str, job: str) -> None:
        self._socket = listen(address)
        self._job = job
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
            except OSError:
                return
            threading.Thread(target=self._sort, args=(Connection(tcp, "?"),), daemon=True).start()

    def _sort(self, connection: Connection) -> None:
        try:
            connection.set_timeout(_HELLO_SECONDS)
            hello = connection.receive()
            connection.set_timeout(None)
            connection.peer, purpose = str(hello.fields["from"]), str(hello.fields["purpose"])
            if hello.fields["job"] != self._job:
                connection.send("refused", {"reason": f"this is {self._job}"})
                connection.close()
                return
        except (PeerError, KeyError, ValueError):  # a port scan, or a probe of the cluster
            connection.close()
            return
        with self._lock:
            answer = self._answers.get(purpose)
            if answer is None:
                callers = self._waiting.setdefault((purpose, connection.peer), queue.Queue())
                callers.put((connection, hello))
        if answer is not None:
            answer(connection, hello)


def call(address: str, peer: str, hello: dict[str, str], patience_seconds: float) -> Connection:
    """Connect to another process; `hello` says `from` whom, for which `job` and `purpose`.

    Raises:
        PeerError: If nobody listens there in time.
    """
    connection = connect(address, peer, patience_seconds)
    connection.send("hello", hello)
    return connection
