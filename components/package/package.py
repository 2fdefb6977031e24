"""A model with its serving settings and provenance, tried under load, then kept as a version."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from components.package.attestations import write_attestations
from components.package.caller_rows import caller_rows
from components.package.callers import EngineDiffersError, try_callers, without_engine
from components.package.load_test import LOAD_REPORT, run_load_test
from components.package.served_rows import require_independent_rows
from components.package.server_process import running_server
from components.package.skew import SkewCheck, exempt_rows
from components.package.versions import kept_before, next_version
from components.quality.loadtest import Load
from contract.layout import PACKAGE_MANIFEST, PipelineLayout
from contract.records.optimization import FallbackEngine
from contract.records.package import PackageManifest, PackageRecord
from contract.schema.data import FeatureConfig
from contract.schema.serving import PackageConfig
from contract.storage import Attempt, digest_directory, storage_errors

log = logging.getLogger("slipway")

SERVER_LOG = "server.log"
_FOLDER = "package"
_MODEL = "model"
_ENGINE = "engine"
_EXAMPLES = "examples.jsonl"

_ATTEMPTS_UNDER_FAULTS = 30


@dataclass(frozen=True)
class Contents:
    """What goes into a package, and how it is checked.

    Attributes:
        model: The SavedModel to copy.
        engine: The folder of the same model for the engine that will serve it; None: TensorFlow.
        exact_model: The SavedModel whose answers must be the trained model's, if it is available.
        manifest: Complete except for version and digest.
        rows: Some rows as callers send them: for the load test, and kept in the package.
        row_tolerance: How far two answers to the same row may be apart.
        features: Of the pipeline's config: the limits of their values.
        skew: Makes the skew check, or says in words why there can be none. Called while the server
            starts.
        fallbacks: The engines to try next, and their folders, if the one of `engine` is left out.
    """

    model: Path
    engine: Path | None
    exact_model: Path | None
    manifest: PackageManifest
    rows: Sequence[Mapping[str, Any]]
    row_tolerance: float
    features: Mapping[str, FeatureConfig]
    skew: Callable[[], SkewCheck | str]
    fallbacks: Sequence[tuple[FallbackEngine, Path]] = ()


@dataclass(frozen=True)
class Workplace:
    """Where to build (on the same file system as `layout`), and by which right to publish."""

    layout: PipelineLayout
    folder: Path
    attempt: Attempt


def package(contents: Contents, settings: PackageConfig, workplace: Workplace) -> PackageRecord:
    """Build a package, try it behind a real server, and only then keep it as `versions/<n>/`.

    The server is the one that will serve it, on a free loopback port. An engine that does otherwise
    than TensorFlow with what callers may send is left out; the next best one is tried, and at last
    TensorFlow serves. The version appears by one rename, so nobody sees a part of it, or one that
    failed; a number once given is given to no other. A retry of the same run whose package is kept
    already tries it again under its number.

    Raises:
        DataError: If it answers otherwise than the trained model does offline.
        UserCodeError: If its answer to a row depends on more than the row.
        SlipwayError: If its server does not start, or it fails the load test.
        ConflictError: If a later attempt has taken over; then nothing is kept.
    """
    folder, layout = workplace.folder / _FOLDER, workplace.layout
    with storage_errors(folder):
        shutil.copytree(contents.model, folder / _MODEL)
        if contents.engine is not None:
            shutil.copytree(contents.engine, folder / _ENGINE)
        lines = (json.dumps(row) + "\n" for row in contents.rows)
        (folder / _EXAMPLES).write_text("".join(lines), encoding="utf-8")
    manifest = _numbered(_described(contents, folder), layout, folder, 0)
    fallbacks, left_out = iter(contents.fallbacks), dict[str, str]()
    contents = replace(contents, skew=cache(contents.skew))
    while (record := _tried(folder, contents, settings, left_out)) is None:
        why = left_out[manifest.engine.name]
        reduced = without_engine(folder, manifest, why, next(fallbacks, None))
        manifest = _numbered(reduced, layout, folder, manifest.version)
    kept = kept_before(layout, manifest)
    record.load.write(folder / LOAD_REPORT)
    write_attestations(folder, manifest)
    workplace.attempt.check()
    if kept is None:
        with storage_errors(layout.versions):
            folder.rename(layout.version(record.version))
    else:
        shutil.rmtree(folder)
    return record


def _tried(
    folder: Path, contents: Contents, settings: PackageConfig, left_out: dict[str, str]
) -> PackageRecord | None:
    """Try the package; None if its engine is to be left out, with the reason in `left_out`."""
    try:
        return _try(folder, contents, settings, left_out)
    except EngineDiffersError as difference:
        left_out[PackageManifest.read(folder / PACKAGE_MANIFEST).engine.name] = str(difference)
        return None


def _numbered(
    manifest: PackageManifest, layout: PipelineLayout, folder: Path, taken: int
) -> PackageManifest:
    """Write the manifest with its number: of an earlier attempt, the one taken, or the next."""
    version = kept_before(layout, manifest) or taken or next_version(layout)
    manifest = manifest.model_copy(update={"version": version})
    manifest.write(folder / PACKAGE_MANIFEST)
    return manifest


def _described(contents: Contents, folder: Path) -> PackageManifest:
    """Return the manifest with the names and digests of what was copied."""
    manifest = contents.manifest
    changes: dict[str, Any] = {"digest": digest_directory(folder / _MODEL), "model": _MODEL}
    if contents.engine is not None:
        engine = {"path": _ENGINE, "digest": digest_directory(folder / _ENGINE)}
        changes["engine"] = manifest.engine.model_copy(update=engine)
    return manifest.model_copy(update={**changes, "examples": _EXAMPLES})


def _try(
    folder: Path,
    contents: Contents,
    settings: PackageConfig,
    left_out: Mapping[str, str],
) -> PackageRecord:
    """Start the package's server; check it for skew, with what callers may send and under load."""
    manifest = PackageManifest.read(folder / PACKAGE_MANIFEST)
    fault_ratio = manifest.serve.fault_ratio
    attempts = _ATTEMPTS_UNDER_FAULTS if fault_ratio else 1
    tolerance = settings.skew_tolerance
    if manifest.engine.is_reduced:
        tolerance = max(tolerance, manifest.engine.tolerance)
    with running_server(folder, folder.parent / SERVER_LOG) as server:
        skew = contents.skew()
        if isinstance(skew, SkewCheck) and contents.exact_model and manifest.engine.tolerance:
            # What the engine may differ by must not hide what the model itself would.
            skew.require_of_model(contents.exact_model, settings.skew_tolerance)
        server.wait_until_ready()
        largest, skipped = 0.0, ""
        if isinstance(skew, SkewCheck):
            exempt = exempt_rows(len(skew.columns), manifest.engine.exempt_ratio)
            largest = skew.require(server.predict_url, tolerance, attempts, exempt)
            log.info("package: no skew, %d rows within %.3g", len(skew.columns), largest)
        else:
            skipped = skew
        inputs = manifest.inputs
        rows = require_independent_rows(
            server.predict_url,
            contents.rows,
            inputs,
            max(contents.row_tolerance, tolerance),
            attempts,
        )
        log.info("package: answers to %d rows depend on each row alone", rows)
        sent = caller_rows(manifest.inputs, contents.features, contents.rows)
        callers = try_callers(server, folder, sent, tolerance)
        tested = settings.loadtest
        load = Load(
            server.predict_url,
            contents.rows,
            tested.seconds,
            tested.concurrency,
            most_requests=tested.requests,
        )
        report = run_load_test(server, load, tested, fault_ratio)
    return PackageRecord(
        version=manifest.version,
        digest=manifest.digest,
        load=report,
        max_skew=largest,
        skew_tolerance=tolerance,
        skew_skipped_because=skipped,
        callers=callers.model_copy(update={"left_out": dict(left_out)}),
    )
