"""An image of a package, read as the OCI image specification says."""

import hashlib
import json
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.package.oci_image import write_image
from contract.errors import DataError, UserError
from contract.records.package import PackageManifest, Provenance
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

FILES = {
    "model/saved_model.pb": b"graph",
    "model/variables/variables.index": b"",
    "sbom.cdx.json": b"{}",
    f"model/assets/{'long/' * 40}vocabulary.txt": "ä".encode(),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "versions" / "3"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    PackageManifest(
        pipeline="half",
        version=3,
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        digest=digest_directory(folder / "model"),
        format="saved_model",
        inputs={},
        heads={},
        serve=ServeConfig(),
        provenance=Provenance(run_id="import-1", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")
    return folder


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """Return what a descriptor names, after the checks that a reader must make."""
    algorithm, _, encoded = descriptor["digest"].partition(":")
    content = (layout / "blobs" / algorithm / encoded).read_bytes()
    assert (algorithm, hashlib.sha256(content).hexdigest()) == ("sha256", encoded)
    assert len(content) == descriptor["size"]
    return content


def test_a_reader_of_the_specification_finds_the_package_below_models(
    package: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "image"
    made = write_image(package, layout, "arm64")
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())
    (described,) = index["manifests"]
    assert (index["schemaVersion"], described["digest"]) == (2, made.digest)
    assert described["platform"] == {"architecture": "arm64", "os": "linux"}
    manifest = json.loads(blob(layout, described))
    assert manifest["mediaType"] == described["mediaType"]
    config = json.loads(blob(layout, manifest["config"]))
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    (layer,) = manifest["layers"]
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"]]}
    assert len(config["history"]) == 1
    blob(layout, layer)
    with tarfile.open(layout / "blobs/sha256" / layer["digest"][7:], "r:") as tar:
        entries = tar.getmembers()
        tar.extractall(tmp_path / "mounted")
    found = tmp_path / "mounted" / "models"
    names = {p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()}
    assert names == {*FILES, "package.json"}
    assert digest_directory(found) == digest_directory(package)
    assert {(e.mtime, e.uid, e.gid, e.uname, e.gname) for e in entries} == {(0, 0, 0, "", "")}
    assert {e.mode for e in entries if e.isfile()} == {0o644}
    assert len(list((layout / "blobs/sha256").iterdir())) == 3


def test_the_same_package_has_the_same_digest_and_another_one_has_not(
    package: Path, tmp_path: Path
) -> None:
    first = write_image(package, tmp_path / "a", "amd64")
    for path in package.rglob("*"):
        os.utime(path, (1, 1))
    (package / "sbom.cdx.json").chmod(0o600)
    assert write_image(package, tmp_path / "b", "amd64").digest == first.digest
    (package / "sbom.cdx.json").write_text("[]")
    assert write_image(package, tmp_path / "c", "amd64").digest != first.digest


def test_a_folder_that_exists_is_not_overwritten(package: Path, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    with pytest.raises(UserError, match="image: exists already; choose another folder"):
        write_image(package, tmp_path / "image", "amd64")
    assert list((tmp_path / "image").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("model/saved_model.pb", "corrupt: the digest of its model"), ("link", "found a link")],
)
def test_a_package_that_is_not_whole_leaves_nothing(
    package: Path, tmp_path: Path, name: str, words: str
) -> None:
    (package / name).unlink(missing_ok=True)
    (package / name).symlink_to("/etc/hostname")
    with pytest.raises(DataError, match=words):
        write_image(package, tmp_path / "image", "amd64")
    assert [one.name for one in tmp_path.iterdir()] == ["versions"]
