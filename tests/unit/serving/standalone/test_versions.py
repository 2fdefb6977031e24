"""Which versions a base path holds, and which are wanted."""

from pathlib import Path

import pytest

from serving.server.grpc.statuses import CallError
from serving.standalone.configuration import ModelConfig, VersionPolicy
from serving.standalone.versions import wanted_versions


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("00000001", "3", "12", "tmp.13", "model", str(1 << 63), "20261129235959123456789"):
        (tmp_path / name).mkdir()
    (tmp_path / "14").write_text("a file")
    return tmp_path


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (VersionPolicy("latest", 1), {12: "12"}),
        (VersionPolicy("latest", 2), {3: "3", 12: "12"}),
        (VersionPolicy("latest", 9), {1: "00000001", 3: "3", 12: "12"}),
        (VersionPolicy("all"), {1: "00000001", 3: "3", 12: "12"}),
        (VersionPolicy("specific", versions=(1, 5)), {1: "00000001"}),
        (VersionPolicy("specific"), {}),
    ],
)
def test_a_policy_chooses_among_folders_named_by_numbers(
    base: Path, policy: VersionPolicy, expected: dict[int, str]
) -> None:
    found = wanted_versions(ModelConfig("m", base, policy))
    assert found == {number: base / name for number, name in expected.items()}


def test_a_version_that_is_wanted_and_absent_is_told(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted_versions(ModelConfig("m", base, VersionPolicy("specific", versions=(5,))))
    assert f"version 5 of 'm' is not in {base}" in caplog.text


def test_a_base_path_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="Could not find base path .*/none for servable m with"):
        wanted_versions(ModelConfig("m", tmp_path / "none"))


def test_a_base_path_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(CallError, match="Could not find base path .* m with error embedded null"):
        wanted_versions(ModelConfig("m", Path("/models\0")))


def test_the_largest_number_that_the_api_can_write_is_a_version(tmp_path: Path) -> None:
    folder = tmp_path / str((1 << 63) - 1)
    folder.mkdir()
    assert wanted_versions(ModelConfig("m", tmp_path)) == {(1 << 63) - 1: folder}
