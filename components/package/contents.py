"""What goes into a package: the model that a run optimised, or a kept version once more."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.data.raw_examples import read_raw, to_rows
from components.package.package import Contents
from components.package.provenance import provenance_of
from components.package.skew import SkewCheck
from components.quality.row_independence import row_tolerance
from contract.errors import NotFoundError, SlipwayError, UserError
from contract.layout import PACKAGE_MANIFEST, PipelineLayout, RunLayout
from contract.records.data import IngestRecord
from contract.records.evaluation import BlessRecord
from contract.records.optimization import OptimizeRecord, ServedEngine
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.record import Result
from contract.schema.pipeline import PipelineConfig

_LOAD_ROWS = 64


def of_run(run: RunLayout, config: PipelineConfig) -> Contents:
    """Return what a run made. The verdict is checked again, however this was started.

    Raises:
        UserError: If the run's model was not blessed.
    """
    blessed = Result.read(run.result("bless")).detail_as(BlessRecord)
    if not blessed.is_blessed:
        raise UserError(
            f"run '{run.run_id}': its model is not blessed, so it gets no package: "
            + "; ".join(blessed.reasons)
        )
    optimized = Result.read(run.result("optimize")).detail_as(OptimizeRecord)
    manifest = PackageManifest(
        pipeline=run.pipeline,
        version=0,
        created_at=datetime.now(UTC),
        digest="",
        inputs={name: InputSpec.of(feature) for name, feature in config.features.items()},
        heads=config.heads,
        serve=config.serve,
        engine=optimized.engine.model_copy(update={"fallbacks": ()}),  # they are not packaged
        metrics=_flat_metrics(blessed, config),
        compared_with_version=blessed.champion_version,
        provenance=provenance_of(run),
    )
    folder = run.step("optimize")
    exact, engine = folder / (optimized.float_model or optimized.model), optimized.engine
    return Contents(
        # Beside the files of another engine is the SavedModel that they were made from.
        model=exact if engine.path else folder / optimized.model,
        engine=_engine_folder(folder, engine),
        exact_model=exact,
        manifest=manifest,
        rows=_test_rows(run, config),
        row_tolerance=row_tolerance(config),
        features=config.features,
        skew=lambda: SkewCheck.of_run(run, config.package.skew_examples),
        fallbacks=[(one, folder / one.path) for one in engine.fallbacks],
    )


def of_version(run: RunLayout, config: PipelineConfig, version: int) -> Contents:
    """Return a kept version's model once more, with the `serve` settings that the config has now.

    Raises:
        NotFoundError: If that version is not kept.
    """
    layout = run.of_pipeline
    folder = layout.version(version)
    layout.check_kept(version)
    manifest = PackageManifest.read(folder / PACKAGE_MANIFEST)
    provenance = {"run_id": run.run_id, "from_version": version}
    is_exact = bool(manifest.engine.path) or manifest.engine.tolerance == 0.0
    return Contents(
        model=folder / manifest.model,
        engine=_engine_folder(folder, manifest.engine),
        exact_model=folder / manifest.model if is_exact else None,
        manifest=manifest.model_copy(
            update={
                "created_at": datetime.now(UTC),
                "serve": config.serve,
                "provenance": manifest.provenance.model_copy(update=provenance),
            }
        ),
        rows=_kept_rows(folder, manifest),
        row_tolerance=row_tolerance(config),
        features=config.features,
        skew=lambda: _skew_of_version(layout, manifest, config.package.skew_examples),
    )


def _engine_folder(folder: Path, engine: ServedEngine) -> Path | None:
    return folder / engine.path if engine.path else None


def _skew_of_version(
    layout: PipelineLayout, manifest: PackageManifest, rows: int
) -> SkewCheck | str:
    """Return the check against the run that trained the version, or why there can be none."""
    try:
        provenance = _origin(layout, manifest)
        return SkewCheck.of_run(layout.run(provenance.run_id), rows)
    except SlipwayError as error:
        return f"the run that trained version {manifest.version} is not readable: {error}"


def _origin(layout: PipelineLayout, manifest: PackageManifest) -> Provenance:
    """Follow versions that repeat versions back to the one that a run trained."""
    while (source := manifest.provenance.from_version) is not None:
        manifest = PackageManifest.read(layout.package_manifest(source))
    return manifest.provenance


def _test_rows(run: RunLayout, config: PipelineConfig) -> list[dict[str, Any]]:
    ingested = Result.read(run.result("ingest")).detail_as(IngestRecord)
    shards = [run.step("ingest") / shard for shard in ingested.shards["test"]]
    return to_rows(read_raw(shards, config, limit=_LOAD_ROWS))


def _kept_rows(folder: Path, manifest: PackageManifest) -> list[dict[str, Any]]:
    path = folder / manifest.examples
    if not manifest.examples or not path.is_file():
        raise NotFoundError(f"{folder}: keeps no example rows, so it cannot be tried under load")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _flat_metrics(blessed: BlessRecord, config: PipelineConfig) -> dict[str, float]:
    """Return the test metrics by name; `<head>/<name>` where there are several heads."""
    return {
        name if len(config.heads) == 1 else f"{head}/{name}": metric.value
        for head, metrics in blessed.metrics.items()
        for name, metric in metrics.items()
    }
