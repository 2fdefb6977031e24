"""Processes as threads: who is there, who is gone, what they sum up to."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from components.train.peers import team as team_module
from components.train.peers.collectives import Ring
from components.train.peers.greeting import Credentials
from components.train.peers.listener import Listener
from components.train.peers.session import check_role, training_rank
from components.train.peers.team import ChiefTeam, MemberTeam, TeamSettings
from components.train.peers.wire import PeerError, connect
from contract.errors import ConfigError, SlipwayError, UserError
from contract.roles import Role
from contract.schema.training import TrainConfig

JOB = Credentials("tiny/run", b"the secret of tiny/run")


# A process that has failed leaves after a while; these are threads of the tests' own process. Never
# set back: a connection that breaks after its test has ended would end all the others.
team_module._LEAVE_SECONDS = 3600.0
team_module._REPORT_SECONDS = 0.5


def settings(silence: float = 20.0, replaceable: frozenset[str] = frozenset()) -> TeamSettings:
    return TeamSettings(JOB, 20.0, silence, replaceable)


def roles(workers: int, free_ports: list[int]) -> list[Role]:
    chief, *others = (f"127.0.0.1:{port}" for port in free_ports[: workers + 1])
    addresses = {"chief": (chief,), "worker": tuple(others)}
    return [Role("chief", 0, addresses), *(Role("worker", n, addresses) for n in range(workers))]


class Gathered:
    """A chief and its members, all there."""

    def __init__(self, everyone: list[Role], how: TeamSettings) -> None:
        self.roles = everyone
        self.listeners = [Listener(role.address, JOB) for role in everyone]
        self.chief = ChiefTeam(everyone[0], how, self.listeners[0])
        address = everyone[0].address
        self.members = [MemberTeam(role, how, address) for role in everyone[1:]]
        self.chief.gather()

    def rings(self) -> list[Ring]:
        teams = [self.chief, *self.members]

        def ring(number: int) -> Ring:
            rank, everyone = training_rank(self.roles[number])
            return Ring(rank, everyone, self.listeners[number], teams[number])

        return side_by_side(ring, len(teams))

    def close(self) -> None:
        self.chief.end(0, "done")
        for listener in self.listeners:
            listener.close()


def side_by_side(work: Callable, count: int) -> list:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


@pytest.fixture
def free_ports() -> list[int]:
    import socket

    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 4097, 50_000])
def test_a_ring_sums_and_all_have_the_same_bits(free_ports, workers, size):
    team = Gathered(roles(workers, free_ports), settings())
    rings = team.rings()
    random = np.random.default_rng(size)
    values = [random.normal(size=size).astype(np.float32) for _ in rings]
    sums = side_by_side(lambda n: rings[n].sum(values[n]), len(rings))
    np.testing.assert_allclose(sums[0], np.sum(values, axis=0, dtype=np.float64), atol=1e-5)
    for other in sums[1:]:
        np.testing.assert_array_equal(other, sums[0])
    team.close()


def test_a_sum_returns_with_all_of_it_sent(free_ports, monkeypatch):
    """TensorFlow then stops all threads while it waits for the others, who wait for this."""
    team = Gathered(roles(1, free_ports), settings())
    rings = team.rings()
    sent = []

    def send_late(array, usual=rings[1]._next.send_array):
        time.sleep(0.5)
        usual(array)
        sent.append(array)

    monkeypatch.setattr(rings[1]._next, "send_array", send_late)
    side_by_side(lambda n: rings[n].sum(np.ones(3)), 2)
    assert len(sent) == 1
    team.close()


def test_compressed_sums_are_within_bfloat16_and_equal_everywhere(free_ports):
    team = Gathered(roles(2, free_ports), settings())
    rings = team.rings()
    for ring in rings:
        ring.is_compressed = True
    values = [np.random.default_rng(n).uniform(1, 2, 10_000).astype(np.float32) for n in range(3)]
    sums = side_by_side(lambda n: rings[n].sum(values[n]), 3)
    # bfloat16 has 8 significant bits: each of three roundings errs by at most 2**-8
    np.testing.assert_allclose(sums[0], np.sum(values, axis=0), rtol=3 * 2**-8)
    np.testing.assert_array_equal(sums[1], sums[0])
    assert not np.array_equal(sums[0], np.sum(values, axis=0))
    team.close()


def test_a_lost_member_wakes_whoever_waits_and_is_named(free_ports):
    team = Gathered(roles(1, free_ports), settings())
    rings = team.rings()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rings[0].sum, np.ones(8))
        team.members[0]._chief.close()
        rings[1].close()
        with pytest.raises(PeerError, match="is gone"):
            waiting.result(10)
    assert "worker-0 is gone" in str(team.chief.reason_of(PeerError("?")))


def test_a_silent_member_is_named_with_its_last_step(free_ports, monkeypatch):
    monkeypatch.setattr(MemberTeam, "_beat", lambda _: None)
    team = Gathered(roles(1, free_ports), settings(silence=1.5))
    noted: list[tuple[str, str]] = []
    team.chief.on_hang(lambda *told: noted.append(told))
    team.members[0]._chief.send("beat", {"step": 17})
    found = team.chief.reason_of(PeerError("?"))
    deadline = time.monotonic() + 60
    while team.chief.failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    found = team.chief.reason_of(PeerError("?"))
    assert "worker-0 hangs: not heard of for" in str(found)
    assert "its last step was 17" in str(found)
    ((role, reason),) = noted
    assert role == "worker-0"
    assert reason.endswith("its last step was 17")


def test_a_members_reason_reaches_the_chief_with_its_kind(free_ports):
    team = Gathered(roles(1, free_ports), settings())
    reporting = threading.Thread(target=team.members[0].report, args=(UserError("bad shard"),))
    reporting.start()
    found = team.chief.reason_of(PeerError("?"))
    assert isinstance(found, UserError)
    assert "worker-0: bad shard" in str(found)
    team.chief.end(2, "bad shard")
    reporting.join(10)


def test_members_end_as_the_chief_does(free_ports):
    team = Gathered(roles(2, free_ports), settings())
    team.chief.end(1, "SIGTERM after step 3")
    for member in team.members:
        with pytest.raises(SlipwayError, match="the chief has ended: SIGTERM after step 3"):
            member.wait_for_end()


def test_training_goes_on_without_a_replaceable_member_and_takes_it_back(free_ports):
    everyone = roles(2, free_ports)
    team = Gathered(everyone, settings(replaceable=frozenset({"worker"})))
    came: list[str] = []
    gone: list[str] = []
    team.chief.on_change(came.append, gone.append)
    team.members[0]._chief.close()
    deadline = time.monotonic() + 60
    while not gone and time.monotonic() < deadline:
        time.sleep(0.02)
    MemberTeam(everyone[1], settings(), everyone[0].address)
    while not came and time.monotonic() < deadline:  # the chief welcomes it in a thread
        time.sleep(0.02)
    assert (gone, came) == (["worker-0"], ["worker-0"])
    assert team.chief.failure is None
    team.close()


def test_a_member_that_does_not_come_is_named(free_ports):
    everyone = roles(2, free_ports)
    how = TeamSettings(JOB, 0.3, 20.0)
    chief = ChiefTeam(everyone[0], how, Listener(everyone[0].address, JOB))
    MemberTeam(everyone[1], how, everyone[0].address)
    with pytest.raises(PeerError, match="worker-1 did not join within 0.3 s"):
        chief.gather()
    chief.end(1, "")


def test_a_process_of_another_run_is_turned_away(free_ports):
    everyone = roles(1, free_ports)
    Listener(everyone[0].address, Credentials("tiny/other", JOB.secret))
    with pytest.raises((UserError, PeerError), match="this is tiny/other"):
        MemberTeam(everyone[1], settings(), everyone[0].address)


def test_a_closed_listener_leaves_its_port(free_ports):
    everyone = roles(1, free_ports)
    Listener(everyone[0].address, Credentials("tiny/earlier", JOB.secret)).close()
    with pytest.raises(PeerError, match="does not listen"):
        connect(everyone[0].address, "chief-0", 0.2)
    Listener(everyone[0].address, JOB).close()


def test_nobody_listening_is_said_with_the_address(free_ports):
    with pytest.raises(PeerError, match=f"chief-0 does not listen at 127.0.0.1:{free_ports[0]}"):
        connect(f"127.0.0.1:{free_ports[0]}", "chief-0", 0.2)


@pytest.mark.parametrize(
    ("train", "role", "message"),
    [
        ({"strategy": "multi_worker"}, Role(), "expected TF_CONFIG with 2 processes"),
        ({"strategy": "parameter_server"}, Role(), "expected TF_CONFIG with chief, workers and ps"),
        ({"strategy": "mpi"}, Role(), "expected to be started by mpirun"),
        ({"strategy": "mpi"}, Role(mpi_size=3), "found 3 ranks, expected 2 by the config"),
        ({}, Role(mpi_size=3), "one of 3 MPI ranks; expected train.strategy mpi"),
        ({}, Role(addresses={"chief": ("a:1",), "worker": ("b:1",)}), "TF_CONFIG names 2"),
        (
            {"strategy": "multi_worker", "workers": 3},
            Role(addresses={"chief": ("a:1",), "worker": ("b:1",)}),
            "found 2 processes that train, expected 3",
        ),
        (
            {"strategy": "parameter_server", "parameter_servers": 2, "workers": 1},
            Role(addresses={"chief": ("a:1",), "worker": ("b:1",), "ps": ("c:1",)}),
            "found 1 parameter servers, expected 2",
        ),
    ],
)
def test_a_strategy_that_does_not_fit_the_processes_is_refused(train, role, message):
    with pytest.raises(ConfigError, match=message):
        check_role(TrainConfig(**train), role)
