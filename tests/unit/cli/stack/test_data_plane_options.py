"""What `slipway up` refuses to open, and to whom."""

from pathlib import Path

import pytest

from cli.stack.ports import choose_ports
from cli.stack.stack import DataPlaneOptions, Plan
from contract.errors import ConfigError

TOKEN, CERTIFICATE, KEY = Path("/token"), Path("/crt"), Path("/key")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_the_loopback_needs_neither_token_nor_tls(address: str) -> None:
    DataPlaneOptions(address).check(is_insecure=False)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "models.example.org", ""])
def test_other_addresses_need_both(address: str) -> None:
    DataPlaneOptions(address, TOKEN, CERTIFICATE, KEY).check(is_insecure=False)
    DataPlaneOptions(address).check(is_insecure=True)
    for given, missing in (
        ((), "expected --data-plane-token-file and --certificate and --private-key, or --insecure"),
        ((TOKEN,), "expected --certificate and --private-key, or --insecure"),
        ((None, CERTIFICATE, KEY), "expected --data-plane-token-file, or --insecure"),
    ):
        with pytest.raises(ConfigError, match=missing):
            DataPlaneOptions(address, *given).check(is_insecure=False)


@pytest.mark.parametrize("given", [(TOKEN, CERTIFICATE, None), (None, None, KEY)])
def test_half_of_tls_is_refused_also_where_anything_goes(given: tuple[Path | None, ...]) -> None:
    with pytest.raises(ConfigError, match="TLS needs both"):
        DataPlaneOptions("127.0.0.1", *given).check(is_insecure=True)


def test_a_rate_reaches_the_agent_and_envoy_is_told(tmp_path: Path) -> None:
    ports = choose_ports(tmp_path / "ports.json", {})
    agent = Plan(tmp_path, ports, False, DataPlaneOptions(requests_per_second=7)).agent
    assert agent.requests_per_second == 7
    assert "--requests-per-second" in agent.arguments()


def test_its_words_ask_up_for_the_same() -> None:
    given = DataPlaneOptions("::", TOKEN, CERTIFICATE, KEY, requests_per_second=5)
    assert given.words() == [
        *("--listen", "::", "--data-plane-token-file", "/token", "--certificate", "/crt"),
        *("--private-key", "/key", "--requests-per-second", "5"),
    ]
    assert DataPlaneOptions().words() == ["--listen", "127.0.0.1"]
