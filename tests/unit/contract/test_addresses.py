"""Where models answer."""

import pytest

from contract.addresses import is_of_this_machine, rollout_page, served_at


@pytest.mark.parametrize("data_plane", ["http://here:1", "http://here:1/"])
def test_a_version_answers_below_its_model(data_plane: str) -> None:
    assert served_at(data_plane, "wine") == "http://here:1/v1/models/wine"
    assert served_at(data_plane, "wine", 3) == "http://here:1/v1/models/wine/versions/3"


def test_without_a_data_plane_there_is_no_address() -> None:
    assert served_at("", "wine", 3) == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080/v1", True),
        ("http://127.0.0.2", True),
        ("https://[::1]:6443", True),
        ("http://LOCALHOST:5000", True),
        ("http://10.0.0.1", False),
        ("http://mlflow.localhost.example", False),
        ("mlruns", False),
    ],
)
def test_the_loopback_is_of_this_machine(url: str, expected: bool) -> None:
    assert is_of_this_machine(url) is expected


def test_the_page_of_a_rollout_is_below_the_agent() -> None:
    assert rollout_page("http://here:1/", "wine") == "http://here:1/rollouts/wine"
    assert rollout_page("", "wine") == ""
