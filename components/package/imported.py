"""A model from anywhere becomes a version: copied, served, tried with rows, and only then kept."""

import json
import logging
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx

from components.package.attestations import write_attestations
from components.package.imported_rows import (
    check_answers,
    check_skew,
    offline_answers,
    rows_for,
)
from components.package.imported_source import Source, copy_readable, find_source
from components.package.load_picture import write_picture
from components.package.load_test import LOAD_PICTURE, LOAD_REPORT, run_load_test
from components.package.provenance import git_commit, library_versions
from components.package.remains import remove_remains
from components.package.server_process import HOST, RunningServer, running_server
from components.package.versions import next_version
from components.package.warm_up_file import write_warm_up
from components.quality.loadtest import Load
from contract.clients.http import open_client
from contract.errors import DataError, UserError
from contract.layout import PACKAGE_MANIFEST, PipelineLayout
from contract.records.optimization import ServedEngine
from contract.records.package import (
    IMPORT_PREFIX,
    LoadReport,
    PackageManifest,
    Provenance,
    SignatureSpec,
    TensorSpec,
)
from contract.schema.imported import PackagingConfig
from contract.storage import digest_directory, publish_directory

log = logging.getLogger("slipway")

_MODEL = "model"
_EXAMPLES = "examples.jsonl"
_ASK_SECONDS = 30.0
_METHODS = ("classify", "regress")
_OF_PIPELINE = SignatureSpec(method="predict", inputs={}, outputs={})
# What the server's metadata call each type that JSON can carry, as TensorFlow names it.
_DTYPES = {
    **{"DT_HALF": "float16", "DT_BFLOAT16": "bfloat16", "DT_FLOAT": "float32"},
    **{"DT_DOUBLE": "float64", "DT_INT8": "int8", "DT_INT16": "int16", "DT_INT32": "int32"},
    **{"DT_INT64": "int64", "DT_UINT8": "uint8", "DT_UINT16": "uint16"},
    **{"DT_UINT32": "uint32", "DT_UINT64": "uint64", "DT_BOOL": "bool", "DT_STRING": "string"},
}


@dataclass(frozen=True)
class Import:
    """What to import, and what is known of it.

    Attributes:
        path: A SavedModel, a LiteRT file, or a package.
        rows: Rows as callers send them; may be empty.
        signature: The one that the rows are for; empty: the default one, or the only one.
        settings: Of its server and of the checks.
    """

    path: Path
    rows: Sequence[Any]
    signature: str
    settings: PackagingConfig


@dataclass(frozen=True)
class Imported:
    """The version that was made, and what was seen of it.

    Attributes:
        manifest: As it is kept.
        load: What the load test saw; None without rows.
        compared_rows: How many rows TensorFlow answered the same outside the server.
        notes: What was not checked, and why.
    """

    manifest: PackageManifest
    load: LoadReport | None
    compared_rows: int
    notes: tuple[str, ...]


def import_model(asked: Import, layout: PipelineLayout) -> Imported:
    """Copy a model into a package, serve it, try it with the rows, and keep it as a version.

    The version appears by one rename, so nobody sees a part of it, or one that failed.

    Raises:
        UserError: If it is no model, has no signatures or a type that JSON cannot carry, or does
            not answer the rows; or if the name belongs to models that a pipeline trains.
        SlipwayError: If its server does not start, or it fails the load test.
        StorageError, DiskFullError: If the disk refuses the package.
    """
    source = find_source(asked.path)
    _check_name(layout, source)
    remove_remains(layout, datetime.now(UTC))
    version = next_version(layout)
    with (
        publish_directory(layout.version(version)) as folder,
        tempfile.TemporaryDirectory(prefix="slipway-import-") as beside,
    ):
        manifest = _written(asked, source, folder, layout.pipeline, version)
        with running_server(folder, Path(beside) / "server.log") as server:
            server.wait_until_ready()
            if manifest.is_imported:
                found = _signatures(server, asked.path)
                manifest = manifest.model_copy(update={"signatures": found})
            imported = _tried(asked, server, manifest, folder)
        imported.manifest.write(folder / PACKAGE_MANIFEST)
        if imported.load is not None:
            imported.load.write(folder / LOAD_REPORT)
            title = f"{layout.pipeline}, version {version}"
            write_picture(imported.load, folder / LOAD_PICTURE, title)
        write_attestations(folder, imported.manifest)
    return imported


def _check_name(layout: PipelineLayout, source: Source) -> None:
    """Refuse to mix imported versions with those that a pipeline of this name has trained."""
    for version in reversed(layout.kept_versions()):
        kept = PackageManifest.read(layout.package_manifest(version))
        if not kept.is_imported and source.format != "package":
            raise UserError(
                f"--name {layout.pipeline}: taken: its version {version} was trained by a "
                "pipeline; choose another name"
            )
        return


def _written(
    asked: Import, source: Source, folder: Path, name: str, version: int
) -> PackageManifest:
    """Fill a package's folder, and return its manifest."""
    if source.format == "package":
        manifest = _of_package(asked, source, folder)
        manifest = manifest.model_copy(update={"pipeline": name, "version": version})
    else:
        source.copy(folder / _MODEL)
        manifest = PackageManifest(
            pipeline=name,
            version=version,
            created_at=datetime.now(UTC),
            model=_MODEL,
            digest=digest_directory(folder / _MODEL),
            format=source.format,
            inputs={},
            heads={},
            serve=asked.settings.server,
            engine=ServedEngine(name="litert" if source.format == "litert" else "tensorflow"),
            provenance=Provenance(
                run_id=_run_id(), git_commit=git_commit(), data_digests={},
                versions=library_versions(),
            ),
        )  # fmt: skip
    if asked.rows:
        lines = (json.dumps(row) + "\n" for row in asked.rows)
        (folder / _EXAMPLES).write_text("".join(lines), encoding="utf-8")
        manifest = manifest.model_copy(update={"examples": _EXAMPLES})
    manifest.write(folder / PACKAGE_MANIFEST)
    return manifest


def _of_package(asked: Import, source: Source, folder: Path) -> PackageManifest:
    """Copy the files of a package that it needs to be served; return what it says of them now."""
    manifest, where = PackageManifest.read(source.path / PACKAGE_MANIFEST), f"--from {source.path}"
    optional = filter(None, (manifest.engine.path, manifest.examples))
    for part in (manifest.model, *optional):
        _check_part(part, where)
        if not (place := source.path / part).exists():
            raise DataError(f"{where}: broken package: '{part}' is missing")
        copy_readable(place, folder / part, where)
    if (found := digest_directory(folder / manifest.model)) != manifest.digest:
        raise DataError(
            f"{where}: corrupt: the digest of its model is {found}, "
            f"{PACKAGE_MANIFEST} says {manifest.digest}; copy the package again"
        )
    provenance = manifest.provenance.model_copy(update={"run_id": _run_id(), "from_version": None})
    given = asked.settings.serve.model_dump(exclude_unset=True)
    changes = {
        "compared_with_version": None,
        "created_at": datetime.now(UTC),
        "provenance": provenance,
        "serve": manifest.serve.model_copy(update=given),
    }
    return manifest.model_copy(update=changes)


def _check_part(part: str, where: str) -> None:
    """Refuse a package that names files outside its folder: they would be written there, too."""
    path = Path(part)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(
            f"{where}: broken package: {PACKAGE_MANIFEST} names '{part}', expected a place below "
            "its folder"
        )


def _run_id() -> str:
    """Return under what the trial of a version is recorded; no run made it."""
    return f"{IMPORT_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


# --- what the server says of it -----------------------------------------------------------------


def _signatures(server: RunningServer, path: Path) -> dict[str, SignatureSpec]:
    """Return the signatures that are served, as the server's metadata have them.

    Raises:
        DataError: If there are none, or one has a type that JSON cannot carry.
    """
    with open_client(f"http://{HOST}:{server.port}", _ASK_SECONDS) as http:
        answer = http.get(f"/v1/models/{server.pipeline}/metadata")
        if answer.status_code != httpx.codes.OK:
            raise DataError(f"--from {path}: the server does not describe it: {answer.text[:300]}")
    listed = answer.json()["metadata"]["signature_def"]["signature_def"]
    found = {
        name: _signature(one, f"--from {path}: signature '{name}'")
        for name, one in sorted(listed.items())
        if not name.startswith("__")  # what TensorFlow runs once after loading
    }
    if not found:
        raise DataError(
            f"--from {path}: a model without signatures, which nobody can call; export it with "
            "signatures, as model.export('DIR') or tf.saved_model.save(..., signatures=...) does"
        )
    return found


def _signature(described: Mapping[str, Any], where: str) -> SignatureSpec:
    method = str(described["method_name"]).rpartition("/")[2]
    return SignatureSpec(
        method=cast("Any", method if method in _METHODS else "predict"),
        inputs={n: _tensor(t, f"{where}: input '{n}'") for n, t in described["inputs"].items()},
        outputs={n: _tensor(t, f"{where}: output '{n}'") for n, t in described["outputs"].items()},
    )


def _tensor(described: Mapping[str, Any], where: str) -> TensorSpec:
    dtype = str(described["dtype"])
    if dtype not in _DTYPES:
        raise DataError(
            f"{where}: found the type {dtype.removeprefix('DT_').lower()}, which requests cannot "
            f"carry; expected one of {', '.join(_DTYPES.values())}: export a signature with these"
        )
    shape = described["tensor_shape"]
    sizes = [int(axis["size"]) for axis in shape.get("dim", ())]
    return TensorSpec(
        dtype=_DTYPES[dtype],
        shape=None
        if shape.get("unknown_rank")
        else tuple(None if size < 0 else size for size in sizes),
    )


# --- rows ---------------------------------------------------------------------------------------


def _tried(
    asked: Import, server: RunningServer, manifest: PackageManifest, folder: Path
) -> Imported:
    """Send the rows: each alone, all together, beside TensorFlow's own answers, and as load."""
    rows = asked.rows or _kept_rows(folder, manifest)
    if not rows:
        words = "no rows: neither its answers nor its speed were tried; give some with --rows"
        return Imported(manifest, None, 0, (words,))
    settings = asked.settings.package
    signatures = manifest.signatures or {"": _OF_PIPELINE}
    wanted = asked.signature or ("" if asked.rows else manifest.examples_signature)
    given = rows_for(signatures, rows, wanted, f"--from {asked.path}")
    answers = check_answers(server, given, settings.skew_tolerance)
    compared, notes = 0, list[str]()
    if manifest.format == "saved_model":
        reference = offline_answers(folder / manifest.model, given)
        if isinstance(reference, str):
            notes.append(f"no skew check: {reference}")
        else:
            check_skew(answers, reference, settings.skew_tolerance)
            compared = len(reference)
    tested = settings.loadtest
    load = Load(
        given.url(server),
        given.rows,
        tested.seconds,
        tested.concurrency,
        most_requests=tested.requests,
        key=given.key,
        more=given.more,
    )
    report = run_load_test(server, load, tested)
    manifest = manifest.model_copy(update={"examples_signature": given.signature})
    if manifest.format == "saved_model":
        model = folder / manifest.model
        if write_warm_up(model, manifest.pipeline, given, signatures[given.signature]):
            manifest = manifest.model_copy(update={"digest": digest_directory(model)})
    return Imported(manifest, report, compared, tuple(notes))


def _kept_rows(folder: Path, manifest: PackageManifest) -> list[Any]:
    if not manifest.examples:
        return []
    lines = (folder / manifest.examples).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
