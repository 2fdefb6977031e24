"""Attacks on the port of a training process, by callers who do not know the job's secret."""

import json
import random
import socket
import stat
import struct
import time

import pytest

from components.train.peers import greeting, listener
from components.train.peers.greeting import Caller, Credentials
from components.train.peers.listener import Listener, call
from components.train.peers.wire import STRANGER, Connection, Limits, PeerError
from contract.layout import RunLayout

JOB = Credentials("tiny/run", b"the secret of tiny/run")
WORKER = Caller("worker-0", "control")
SEED = 18
FUZZED = 400


class Opened:
    """A listener on a free port of the loopback."""

    def __init__(self) -> None:
        self.listener = Listener("127.0.0.1:0", JOB)
        self.address = f"127.0.0.1:{self.listener.port}"

    def stranger(self) -> Connection:
        return Connection(socket.create_connection(("127.0.0.1", self.listener.port), 5.0), "it")

    def takes_a_member(self) -> bool:
        ours = call(self.address, "chief-0", JOB, WORKER, 5.0)
        theirs = self.listener.take("control", "worker-0", 5.0)
        ours.send("beat", {"step": 7})
        answer = theirs.receive()
        ours.close()
        return (answer.kind, answer.fields) == ("beat", {"step": 7})


@pytest.fixture
def opened():
    made = Opened()
    yield made
    made.listener.close()


def head(fields: object, kind: object = "hello", arrays: object = ()) -> bytes:
    text = json.dumps({"kind": kind, "fields": fields, "arrays": arrays}).encode()
    return struct.pack("!I", len(text)) + text


def hello(**over: object) -> dict[str, object]:
    return {"job": JOB.job, "purpose": "control", "from": "worker-0", "nonce": "00", **over}


def is_turned_away(stranger: Connection) -> bool:
    """Tell whether the other side ends the connection, instead of waiting for more."""
    stranger.set_timeout(5.0)
    try:
        return stranger.receive(STRANGER).kind == "refused"
    except PeerError as error:
        return "is gone" in str(error)


def test_the_secret_of_a_run_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    run = RunLayout(tmp_path, "tiny", "run")
    first, second = Credentials.of(run), Credentials.of(run)
    assert first == second
    assert len(first.secret) == 43  # 256 bits
    assert stat.S_IMODE(run.peers_secret.stat().st_mode) == 0o600
    assert first != Credentials.of(RunLayout(tmp_path, "tiny", "other"))
    assert "secret" not in repr(first)


def test_a_caller_without_the_secret_learns_that_it_is_missing(opened):
    wrong = Credentials(JOB.job, b"a guess")
    with pytest.raises(PeerError, match="does not know the secret of tiny/run"):
        call(opened.address, "chief-0", wrong, WORKER, 5.0)
    with pytest.raises(PeerError, match="worker-0 did not connect within 0.2 s"):
        opened.listener.take("control", "worker-0", 0.2)


def test_a_caller_that_guesses_its_proof_is_refused(opened):
    stranger = opened.stranger()
    stranger.send("hello", hello())
    assert stranger.receive(STRANGER).kind == "challenge"
    stranger.send("proof", {"proof": "0" * 64})
    assert "does not know the secret" in stranger.receive(STRANGER).fields["reason"]
    with pytest.raises(PeerError, match="did not connect"):
        opened.listener.take("control", "worker-0", 0.2)


def test_a_greeting_that_was_overheard_cannot_be_said_again(opened, monkeypatch):
    said: list[bytes] = []
    usual = Connection.send

    def overheard(connection, kind, fields=None, arrays=()):
        if kind in ("hello", "proof"):
            said.append(head(fields, kind))
        usual(connection, kind, fields, arrays)

    monkeypatch.setattr(Connection, "send", overheard)
    assert opened.takes_a_member()
    monkeypatch.undo()
    stranger = opened.stranger()
    for message in said:
        stranger._tcp.sendall(message)
    assert stranger.receive(STRANGER).kind == "challenge"
    assert is_turned_away(stranger)


def test_a_proof_is_of_its_side_and_of_what_was_said():
    said = {"job": JOB.job, "purpose": "control", "from": "worker-0", "nonce": "aa"}
    proofs = {
        JOB.proof("caller", said, "bb"),
        JOB.proof("callee", said, "bb"),
        JOB.proof("caller", said, "cc"),
        *(JOB.proof("caller", {**said, key: "other"}, "bb") for key in said),
        Credentials(JOB.job, b"other").proof("caller", said, "bb"),
    }
    assert len(proofs) == 8


def test_what_answers_in_the_place_of_the_chief_is_found_out():
    trap = socket.create_server(("127.0.0.1", 0))
    trap.settimeout(5.0)
    address = f"127.0.0.1:{trap.getsockname()[1]}"
    caught = socket.create_connection(trap.getsockname(), 5.0)  # the caller's side
    tcp, _ = trap.accept()
    Connection(tcp, "?").send("challenge", {"nonce": "00", "proof": "0" * 64})
    with pytest.raises(PeerError, match="what answers there does not know the secret"):
        greeting.greet(Connection(caught, address), JOB, WORKER, 5.0)
    trap.close()


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\nHost: chief-0\r\n\r\n",  # "GET " is a head of 1.2 GB
        b"\xff\xff\xff\xff",
        struct.pack("!I", 4097) + b" " * 4097,
        struct.pack("!I", 4000) + b"[" * 4000,
        struct.pack("!I", 4) + b"\xff\xfe\xfd\xfc",
        head([]),
        head(hello(), kind=7),
        head(hello(), arrays={}),
        head(hello(), arrays=[["float32", [1 << 40]]]),
        head(hello(), arrays=[["float32", [-1]]]),
        head(hello(), arrays=[["object", [1]]]),
        head(hello(), arrays=[["float32", [1.5]]]),
        head(hello(), arrays=[[["float32"], [1]]]),
        head(hello(), arrays=[["float32", [0] * 33]]),
        head(hello(), kind="beat"),
        head({"job": JOB.job}),
        head(hello(purpose=7)),
        head(hello(job="tiny/other")),
        b"",
    ],
)
def test_a_stranger_is_turned_away_at_its_first_word(opened, message):
    stranger = opened.stranger()
    stranger._tcp.sendall(message)
    if not message:
        stranger._tcp.shutdown(socket.SHUT_WR)
    assert is_turned_away(stranger)
    assert opened.takes_a_member()


def test_a_stranger_that_stays_silent_or_slow_is_let_go(opened, monkeypatch):
    monkeypatch.setattr(greeting, "_ANSWER_SECONDS", 0.3)
    slow = opened.stranger()
    started = time.monotonic()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        for byte in head(hello(nonce="0" * 3000)):  # a minute at this pace
            slow._tcp.sendall(bytes([byte]))
            time.sleep(0.02)
    assert time.monotonic() - started < 30.0
    silent = opened.stranger()
    assert is_turned_away(silent)


def test_a_crowd_of_strangers_does_not_keep_members_out(opened, monkeypatch):
    monkeypatch.setattr(listener, "_MAX_STRANGERS", 8)
    crowd = [opened.stranger() for _ in range(40)]
    assert opened.takes_a_member()
    assert len(opened.listener._strangers) <= 8
    assert is_turned_away(crowd[0])


def test_a_fuzzed_port_still_takes_members(opened):
    """Greetings with bytes changed, cut, repeated or made up: none comes in, none does harm."""
    chance = random.Random(SEED)
    valid = head(hello(nonce="ab" * 32)) + head({"proof": "0" * 64}, "proof")
    for _ in range(FUZZED):
        stranger = opened.stranger()
        stranger._tcp.sendall(_damaged(valid, chance))
        stranger.close()
    deadline = time.monotonic() + 60
    while opened.listener._strangers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not opened.listener._strangers
    assert not opened.listener._waiting
    assert opened.takes_a_member()


def test_fuzzed_messages_are_read_or_refused_and_nothing_else():
    chance = random.Random(SEED)
    valid = head({"number": 3, "share": 0}, "push", [["float32", [2, 3]], ["bfloat16", [4]]])
    valid += bytes(24 + 8)
    kinds = set()
    for _ in range(FUZZED):
        ours, theirs = _tcp_pair()
        ours.sendall(_damaged(valid, chance))
        ours.close()
        connection = Connection(theirs, "worker-0")
        connection.set_timeout(1.0)
        try:
            kinds.add(type(connection.receive(Limits(4096, 1 << 20))).__name__)
        except PeerError as error:
            kinds.add(type(error).__name__)
        finally:
            connection.close()
    assert kinds == {"Message", "PeerError", "PeerGoneError"}


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname(), 5.0)
        theirs, _ = server.accept()
    return ours, theirs


def _damaged(valid: bytes, chance: random.Random) -> bytes:
    how = chance.randrange(5)
    data = bytearray(valid)
    if how == 0:
        return bytes(chance.randbytes(chance.randrange(1, 200)))
    if how == 1:
        return bytes(data[: chance.randrange(1, len(data))])
    if how == 2:
        at = chance.randrange(len(data))
        return bytes(data[:at] + data[chance.randrange(len(data)) :])
    if how == 3:  # digits, brackets and quotes where there were others: a valid head more often
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(4, len(data))] = chance.choice(b'0123456789[]{}",-.eE')
        return bytes(data)
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)
