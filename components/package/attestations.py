"""What a package says of itself in forms that other tools read: a bill of materials, provenance.

Neither is signed: they say where a package comes from to those who trust the folder it lies in.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from contract.bill_of_materials import Document, bill_of_materials, installed_libraries
from contract.records.package import PackageManifest
from contract.storage import digest_file

BILL = "sbom.cdx.json"
PROVENANCE = "provenance.intoto.json"
_OURS = (BILL, PROVENANCE)


def write_attestations(folder: Path, manifest: PackageManifest) -> None:
    """Write both beside the package's manifest; call it when the package is complete."""
    documents = {
        BILL: package_bill(manifest, installed_libraries()),
        PROVENANCE: provenance_statement(manifest, file_digests(folder)),
    }
    for name, document in documents.items():
        text = json.dumps(document, indent=1, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a package, in hexadecimal, by its relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {str(path.relative_to(folder)): path for path in files}
    return {
        name: digest_file(path).removeprefix("sha256:")
        for name, path in names.items()
        if name not in _OURS
    }


def package_bill(manifest: PackageManifest, libraries: Mapping[str, str]) -> Document:
    """Return the libraries with which the model was packaged and tried."""
    described = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest.pipeline,
        "version": str(manifest.version),
        "properties": [{"name": "slipway:digest", "value": manifest.digest}],
    }
    unique = f"{manifest.pipeline}/{manifest.version}/{manifest.digest}"
    return bill_of_materials(described, unique, libraries, manifest.created_at.isoformat())


def provenance_statement(manifest: PackageManifest, files: Mapping[str, str]) -> Document:
    """Return which files there are, and what they were made from.

    Source:
        in-toto Statement 1 and SLSA provenance 1.0, https://slsa.dev/spec/v1.0/provenance.
    """
    origin = manifest.provenance
    parameters: Document = {"pipeline": manifest.pipeline, "run_id": origin.run_id}
    if origin.from_version is not None:
        parameters["from_version"] = origin.from_version
    code = {"name": "workspace", "digest": {"gitCommit": origin.git_commit}}
    data = [
        {"name": name, "annotations": {"slipway:digest": digest}}
        for name, digest in sorted(origin.data_digests.items())
    ]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": sha}} for name, sha in files.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:slipway:package:1",
                "externalParameters": parameters,
                "internalParameters": {"versions": origin.versions},
                "resolvedDependencies": [*([code] if origin.git_commit else []), *data],
            },
            "runDetails": {
                "builder": {"id": "urn:slipway:components.package"},
                "metadata": {
                    "invocationId": origin.run_id,
                    "finishedOn": manifest.created_at.isoformat(),
                },
            },
        },
    }
