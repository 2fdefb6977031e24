"""How two processes of one training authenticate each other.

    caller  ->  hello      job, purpose, from, a nonce
    callee  ->  challenge  its own nonce, and its proof
    caller  ->  proof      its proof

A proof is an HMAC with the job's secret over both nonces and the hello, so that a recorded proof is
useless in another connection. The secret lies beside the run's other files: a process that may read
those may take part. What follows the greeting is neither encrypted nor signed.
"""

import contextlib
import hmac
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.train.peers.wire import STRANGER, Connection, Message, PeerError
from contract.errors import UserError
from contract.layout import RunLayout
from contract.private_files import secret_file

_ANSWER_SECONDS = 10.0  # for a caller to prove itself: it waits for nothing else

_NONCE_BYTES = 32
_HELLO = ("job", "purpose", "from", "nonce")


@dataclass(frozen=True)
class Credentials:
    """Which job a process belongs to, and what only its processes know."""

    job: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, run: RunLayout) -> "Credentials":
        """Return the credentials of a run's training; its first process makes the secret."""
        secret = secret_file(run.peers_secret).read_bytes()
        return cls(f"{run.pipeline}/{run.run_id}", secret)

    def proof(self, side: Literal["caller", "callee"], hello: dict[str, str], nonce: str) -> str:
        """Return what only a process of the job can say to a hello and the callee's nonce."""
        said = json.dumps([side, nonce, *(hello[key] for key in _HELLO)]).encode()
        return hmac.digest(self.secret, said, "sha256").hex()


@dataclass(frozen=True)
class Caller:
    """Who calls, and what for."""

    name: str
    purpose: str


def greet(
    connection: Connection, credentials: Credentials, who: Caller, patience_seconds: float
) -> None:
    """Say who calls and what for, and make sure that a process of the same job has answered.

    Raises:
        UserError: If the other process is of another job.
        PeerError: If it is gone, silent, or does not know the job's secret.
    """
    own = {"job": credentials.job, "purpose": who.purpose, "from": who.name}
    hello = {**own, "nonce": _nonce()}
    connection.send("hello", hello)
    connection.set_timeout(patience_seconds)
    answer = connection.receive(STRANGER)
    if answer.kind == "refused":
        raise UserError(f"{connection.peer} refused: {answer.fields.get('reason', '')}")
    with _malformed(connection):
        nonce, proof = _texts(answer, "challenge", ("nonce", "proof"))
    if not _is_equal(proof, credentials.proof("callee", hello, nonce)):
        raise PeerError(
            f"{connection.peer}: what answers there does not know the secret of {credentials.job}; "
            "expected a process of this training"
        )
    connection.send("proof", {"proof": credentials.proof("caller", hello, nonce)})
    connection.set_timeout(None)


def welcome(connection: Connection, credentials: Credentials) -> Message:
    """Return the hello of a caller that has proven to be of the job.

    Raises:
        PeerError: If it is not, or said something else; it has been told why if it may know.
    """
    connection.set_deadline(_ANSWER_SECONDS)
    hello = connection.receive(STRANGER)
    with _malformed(connection):
        fields = dict(zip(_HELLO, _texts(hello, "hello", _HELLO), strict=True))
    if fields["job"] != credentials.job:
        _refuse(connection, f"this is {credentials.job}")
    nonce = _nonce()
    proof = credentials.proof("callee", fields, nonce)
    connection.send("challenge", {"nonce": nonce, "proof": proof})
    with _malformed(connection):
        (proof,) = _texts(connection.receive(STRANGER), "proof", ("proof",))
    if not _is_equal(proof, credentials.proof("caller", fields, nonce)):
        _refuse(connection, f"the caller does not know the secret of {credentials.job}")
    connection.set_timeout(None)
    connection.peer = fields["from"]
    return hello


def _refuse(connection: Connection, reason: str) -> None:
    connection.send("refused", {"reason": reason})
    raise PeerError(f"{connection.peer}: refused: {reason}")


@contextlib.contextmanager
def _malformed(connection: Connection) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise PeerError(f"{connection.peer}: {error}") from error


def _texts(message: Message, kind: str, keys: tuple[str, ...]) -> list[str]:
    """Return fields of a message that has to be of a kind, all of them text."""
    found = [message.fields.get(key) for key in keys]
    if message.kind != kind or not all(isinstance(one, str) for one in found):
        raise ValueError(f"expected '{kind}' with {', '.join(keys)}, found '{message.kind[:40]}'")
    return [str(one) for one in found]


def _is_equal(said: str, proof: str) -> bool:
    return hmac.compare_digest(said.encode("ascii", "replace"), proof.encode())


def _nonce() -> str:
    return secrets.token_hex(_NONCE_BYTES)
