"""Which ports the services get."""

import json
import os
import socket
from pathlib import Path

import pytest

from cli.stack.ports import SERVICES, choose_ports, parse_ports
from contract.errors import ConfigError
from contract.free_ports import free_port


def test_every_service_gets_a_port_of_its_own(tmp_path: Path) -> None:
    ports = choose_ports(tmp_path / "ports.json", {})
    assert sorted(ports) == sorted(SERVICES)
    assert len(set(ports.values())) == len(SERVICES)


def test_ports_are_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    assert choose_ports(path, {}) == choose_ports(path, {})


def test_an_address_does_not_change_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = choose_ports(path, {})
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["data_plane"]))
        other.listen()
        holder = rf"in use by another program \(.+, {os.getpid()}\)"
        with pytest.raises(
            ConfigError, match=rf"data_plane: its port {first['data_plane']} is {holder}"
        ):
            choose_ports(path, {})
        chosen = choose_ports(path, {"data_plane": free_port()})
    assert chosen["data_plane"] != first["data_plane"]
    assert chosen["agent"] == first["agent"]
    assert choose_ports(path, {}) == chosen


def test_what_serves_on_keeps_its_ports_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = choose_ports(path, {})
    with socket.socket() as own:
        own.bind(("127.0.0.1", first["data_plane"]))
        with pytest.raises(ConfigError, match="data_plane: its port"):
            choose_ports(path, {}, {os.getpid()})  # nobody listens, so nobody knows whose it is
        own.listen()
        assert choose_ports(path, {}, {os.getpid()}) == first
        with pytest.raises(ConfigError, match="data_plane: its port"):
            choose_ports(path, {}, {os.getpid() + 1})


def test_a_port_of_a_service_that_has_none_any_more_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = choose_ports(path, {})
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        older = first | {"envoy_admin": other.getsockname()[1]}  # as Slipway 0.1 kept it
        path.write_text(json.dumps(older))
        assert choose_ports(path, {}) == first
    assert json.loads(path.read_text()) == first


def test_a_kept_port_goes_to_the_service_that_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = choose_ports(path, {})
    second = choose_ports(path, {"agent": first["mlflow"]})
    assert second["agent"] == first["mlflow"]
    assert second["mlflow"] != first["mlflow"]


def test_a_wanted_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"agent={port}: in use by another program"):
            choose_ports(tmp_path / "ports.json", {"agent": port})


def test_an_unknown_service_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown service 'mlfow'; did you mean 'mlflow'"):
        parse_ports(["mlfow=5000"])


@pytest.mark.parametrize("port", ["", "x", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(ConfigError, match="expected a port from 1 to 65535"):
        parse_ports([f"agent={port}"])
