"""Where models answer."""

import pytest

from contract.addresses import served_at


@pytest.mark.parametrize("data_plane", ["http://here:1", "http://here:1/"])
def test_a_version_answers_below_its_model(data_plane: str) -> None:
    assert served_at(data_plane, "wine") == "http://here:1/v1/models/wine"
    assert served_at(data_plane, "wine", 3) == "http://here:1/v1/models/wine/versions/3"


def test_without_a_data_plane_there_is_no_address() -> None:
    assert served_at("", "wine", 3) == ""
