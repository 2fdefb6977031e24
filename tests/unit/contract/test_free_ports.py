"""Finding ports that nobody listens on."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract import free_ports as ports_module
from contract.addresses import LOOPBACK
from contract.free_ports import free_port, free_ports, is_free


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the ports given out, which only this test uses."""
    monkeypatch.setattr(ports_module, "_REGISTER", tmp_path)
    return tmp_path / f"slipway-ports-{os.getuid()}"


def test_the_ports_differ_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.create_server((LOOPBACK, port)):
            pass


def test_a_port_is_not_free_while_somebody_listens() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)
    assert is_free(port)


def test_no_outgoing_connection_can_take_a_port_that_was_given_out() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in free_ports(100) if first <= port <= last]


def test_processes_that_ask_at_once_get_different_ports(tmp_path: Path) -> None:
    code = (
        "import pathlib, contract.free_ports as ports\n"
        f"ports._REGISTER = pathlib.Path({str(tmp_path)!r})\n"
        "print(*ports.free_ports(300))"
    )
    asking = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ports = [port for process in asking for port in process.communicate()[0].split()]
    assert len(set(ports)) == len(ports) == 1200


def test_a_port_is_given_again_when_it_was_noted_long_ago(
    register: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports_module, "_candidates", lambda: [10_001, 10_002])
    now = time.time()
    register.write_text(f"10001 {now - 601:.0f}\n10002 {now - 500:.0f}\n")
    assert free_port() == 10_001
    assert register.read_text().splitlines()[0] == f"10002 {now - 500:.0f}"
    assert free_port() not in (10_001, 10_002)


@pytest.mark.parametrize("content", ["no register", "10001\n", "\x00"])
def test_a_register_that_cannot_be_read_counts_as_empty(register: Path, content: str) -> None:
    register.write_text(content)
    port = free_port()
    assert register.read_text().split()[0] == str(port)


def test_a_link_in_place_of_the_register_is_left_alone(register: Path, tmp_path: Path) -> None:
    target = tmp_path / "of somebody else"
    target.write_text("as it was")
    register.symlink_to(target)
    assert is_free(free_port())
    assert target.read_text() == "as it was"


@pytest.mark.parametrize("kernels", ["1024 65535", "no numbers"])
def test_where_the_kernel_leaves_no_ports_it_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str
) -> None:
    (tmp_path / "range").write_text(kernels)
    monkeypatch.setattr(ports_module, "_OF_THE_KERNEL", tmp_path / "range")
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(map(is_free, ports))
