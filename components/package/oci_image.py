"""A package as an OCI image layout, made without a container engine.

Source: github.com/opencontainers/image-spec, version 1.1: image-layout.md, manifest.md, config.md,
layer.md. The image holds data only, one layer with the package below /models, where KServe and
image volumes of Kubernetes look for it. Names in order, times of 1970, no owners and no
compression: the same package always has the same digest.
"""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import DataError, UserError
from contract.layout import PACKAGE_MANIFEST
from contract.records.package import PackageManifest
from contract.storage import digest_bytes, digest_directory, digest_file, publish_directory

MODELS = "models"

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_ANNOTATION = "org.opencontainers.image"


@dataclass(frozen=True)
class Image:
    """An image that was written: where, and the digest of its manifest."""

    folder: Path
    digest: str


def write_image(package: Path, target: Path, architecture: str) -> Image:
    """Write a package as an OCI image layout; it appears whole or not at all.

    Args:
        package: The folder of a version.
        target: The folder to make.
        architecture: What the image says it runs on, such as `amd64`; the files are the same.

    Raises:
        UserError: If the target exists, or the package is broken.
        StorageError, DiskFullError: If the disk refuses it.
    """
    if target.exists():
        raise UserError(f"{target}: exists already; choose another folder, or remove it")
    manifest = PackageManifest.read(package / PACKAGE_MANIFEST)
    if (found := digest_directory(package / manifest.model)) != manifest.digest:
        raise DataError(
            f"{package}: corrupt: the digest of its model is {found}, {PACKAGE_MANIFEST} says "
            f"{manifest.digest}; package the model again"
        )
    with publish_directory(target) as folder:
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        layer = _write_layer(blobs, package)
        config = _write_json(blobs, _CONFIG_TYPE, _config(manifest, layer, architecture))
        annotations = {
            f"{_ANNOTATION}.title": manifest.pipeline,
            f"{_ANNOTATION}.version": str(manifest.version),
            f"{_ANNOTATION}.created": manifest.created_at.isoformat(),
        }
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": config,
            "layers": [layer],
            "annotations": annotations,
        }
        described = _write_json(blobs, _MANIFEST_TYPE, document)
        named = {
            **described,
            "platform": {"architecture": architecture, "os": "linux"},
            "annotations": {f"{_ANNOTATION}.ref.name": str(manifest.version)},
        }
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [named]}
        (folder / "index.json").write_bytes(_encoded(index))
        (folder / "oci-layout").write_bytes(_encoded({"imageLayoutVersion": "1.0.0"}))
    return Image(target, described["digest"])


def _config(manifest: PackageManifest, layer: dict[str, Any], architecture: str) -> dict[str, Any]:
    created = manifest.created_at.isoformat()
    return {
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Labels": {"slipway.model": manifest.pipeline, "slipway.digest": manifest.digest}
        },
        # Not compressed, so the layer's digest is that of its content.
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created": created, "created_by": "slipway image"}],
    }


def _write_layer(blobs: Path, package: Path) -> dict[str, Any]:
    path = blobs / "layer"
    with (
        path.open("wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.addfile(_entry(MODELS, is_folder=True))
        for name, one in _files(package):
            entry = _entry(f"{MODELS}/{name}", is_folder=one.is_dir())
            if one.is_dir():
                tar.addfile(entry)
                continue
            entry.size = one.stat().st_size
            with one.open("rb") as content:
                tar.addfile(entry, content)
    digest = digest_file(path)
    path.rename(blobs / digest.removeprefix("sha256:"))
    return _descriptor(_LAYER_TYPE, digest, (blobs / digest.removeprefix("sha256:")).stat().st_size)


def _files(package: Path) -> list[tuple[str, Path]]:
    """Return what is below a package by its relative name, folders before what they hold.

    Raises:
        DataError: If there is something that is neither a folder nor a file.
    """
    found = sorted((path.relative_to(package).as_posix(), path) for path in package.rglob("*"))
    for name, path in found:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise DataError(
                f"{package / name}: found a link or a special file, expected files and folders "
                "only; package the model again"
            )
    return found


def _entry(name: str, *, is_folder: bool) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # of nobody, of 1970
    entry.type, entry.mode = (tarfile.DIRTYPE, 0o755) if is_folder else (tarfile.REGTYPE, 0o644)
    return entry


def _write_json(blobs: Path, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
    content = _encoded(document)
    digest = digest_bytes(content)
    (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    return _descriptor(media_type, digest, len(content))


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}
