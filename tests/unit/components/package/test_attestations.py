"""A package's bill of materials and provenance, held against their specifications by hand."""

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.package.attestations import (
    BILL,
    PROVENANCE,
    package_bill,
    provenance_statement,
    write_attestations,
)
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig

COMMIT = "0123456789" * 4
FILES = {"model/saved_model.pb": b"graph", "model/variables/v": b"", "package.json": b"{}"}


def manifest(**origin: Any) -> PackageManifest:
    given = {"data_digests": {"ingest/examples": "sha256:7"}, "versions": {"python": "3.11.2"}}
    return PackageManifest(
        pipeline="digits",
        version=3,
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        digest="sha256:8",
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("a", "b"))},
        serve=ServeConfig(),
        provenance=Provenance(**{"run_id": "r", "git_commit": COMMIT, **given, **origin}),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    write_attestations(tmp_path, manifest())
    return tmp_path


def test_every_file_of_a_package_is_a_subject_with_its_sha256(folder: Path) -> None:
    statement = json.loads((folder / PROVENANCE).read_text())
    found = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_writing_them_again_changes_nothing(folder: Path) -> None:
    before = {name: (folder / name).read_text() for name in (BILL, PROVENANCE)}
    write_attestations(folder, manifest())
    assert {name: (folder / name).read_text() for name in before} == before


def test_the_statement_has_what_slsa_asks_for() -> None:
    statement = provenance_statement(manifest(from_version=2), {})
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = statement["predicate"]["buildDefinition"]
    parameters = {"pipeline": "digits", "run_id": "r", "from_version": 2}
    assert definition["externalParameters"] == parameters
    assert definition["resolvedDependencies"] == [
        {"name": "workspace", "digest": {"gitCommit": COMMIT}},
        {"name": "ingest/examples", "annotations": {"slipway:digest": "sha256:7"}},
    ]
    assert statement["predicate"]["runDetails"]["builder"]["id"]


def test_without_git_there_is_no_commit() -> None:
    definition = provenance_statement(manifest(git_commit=""), {})["predicate"]["buildDefinition"]
    assert [one["name"] for one in definition["resolvedDependencies"]] == ["ingest/examples"]


def test_the_bill_names_every_library_by_its_package_url() -> None:
    libraries = {"PyYAML": "6.0", "ruamel.yaml": "1", "torch": "2.0+cpu"}
    bill = package_bill(manifest(), libraries)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert [one["purl"] for one in bill["components"]] == [
        "pkg:pypi/pyyaml@6.0",
        "pkg:pypi/ruamel-yaml@1",
        "pkg:pypi/torch@2.0%2Bcpu",
    ]
    subject = bill["metadata"]["component"]
    assert (subject["type"], subject["version"]) == ("machine-learning-model", "3")
