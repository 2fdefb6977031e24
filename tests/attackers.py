"""Attackers on this machine: another user, with the powers of any account and nobody's password."""

import http.client
import json
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest

NOBODY = 65534


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], Any]], Any]:
    """Return what runs a function in a child of another user and returns its JSON answer.

    The child is a fork: that user could not even read this interpreter.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    "127.0.0.1".encode("idna")  # imported now: the child may not read the standard library

    def run(attack: Callable[[], Any]) -> Any:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _end_as_nobody(attack, writing)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as said:
            answer = said.read()
        os.waitpid(child, 0)
        assert answer, "the attacker died"
        found = json.loads(answer)
        assert "raised" not in found, found
        return found["answer"]

    return run


def _end_as_nobody(attack: Callable[[], Any], writing: int) -> None:
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        found = {"answer": attack()}
    except BaseException:  # noqa: BLE001  # a forked test must not go on
        found = {"raised": traceback.format_exc()}
    os.write(writing, json.dumps(found).encode())
    os._exit(0)


def asked(port: int, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Return status and text of a request without any credentials; status 0: no HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


def connects(path: str) -> bool:
    """Tell whether a Unix socket takes a connection."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True
