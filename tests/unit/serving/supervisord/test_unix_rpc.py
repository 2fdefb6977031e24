"""What becomes of a supervisord that does not answer as it should."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.errors import ServiceUnavailableError
from serving.supervisord import unix_rpc
from serving.supervisord.unix_rpc import call


@contextmanager
def listening(path: Path, answer: bytes) -> Iterator[None]:
    """Accept one caller on a unix socket; answer it so, or never if there is no answer."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        accepted: list[socket.socket] = []

        def serve() -> None:
            accepted.append(server.accept()[0])
            if answer:
                accepted[0].recv(65536)
                accepted[0].sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()
        accepted[0].close()


def test_a_supervisord_that_hangs_is_not_waited_for_permanently(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(unix_rpc, "_TIMEOUT_SECONDS", 0.05)
    path = tmp_path / "s"
    with (
        listening(path, b""),
        pytest.raises(ServiceUnavailableError, match="does not answer: timed out; start it with"),
    ):
        call(path, "supervisor.getState")


def test_an_answer_other_than_200_is_one_of_our_errors(tmp_path) -> None:
    path = tmp_path / "s"
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    with (
        listening(path, refusal),
        pytest.raises(ServiceUnavailableError, match="does not answer: .*401 Unauthorized"),
    ):
        call(path, "supervisor.getState")
