"""Finding ports that nobody listens on."""

import socket

from contract.free_ports import LOOPBACK, free_port, free_ports, is_free


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
