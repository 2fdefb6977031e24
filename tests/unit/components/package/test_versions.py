"""Version numbers: given once, also to two at a time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from components.package.versions import kept_before, next_version
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest, Provenance
from contract.schema.serving import ServeConfig


def manifest(run_id: str, digest: str = "sha256:1") -> PackageManifest:
    return PackageManifest(
        pipeline="tiny",
        version=0,
        created_at=datetime.now(UTC),
        digest=digest,
        inputs={},
        heads={},
        serve=ServeConfig(),
        provenance=Provenance(run_id=run_id, git_commit="", data_digests={}, versions={}),
    )


def test_numbers_rise_from_one_and_are_not_given_twice(tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path, "tiny")
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda _: next_version(layout), range(40)))
    assert sorted(numbers) == list(range(1, 41))


def test_a_number_whose_folder_is_there_is_passed_over(tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path, "tiny")
    layout.version(1).mkdir(parents=True)
    layout.version(2).mkdir()
    assert next_version(layout) == 3


def test_a_retry_finds_what_its_run_kept(tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path, "tiny")
    manifest("mine").write(layout.version(5) / "package.json")
    assert kept_before(layout, manifest("mine")) == 5


def test_another_run_or_another_model_is_another_version(tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path, "tiny")
    manifest("mine").write(layout.version(5) / "package.json")
    assert kept_before(layout, manifest("other")) is None
    assert kept_before(layout, manifest("mine", digest="sha256:2")) is None
