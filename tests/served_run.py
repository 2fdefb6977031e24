"""A run whose model is in service, as far as storage says."""

from datetime import UTC, datetime

from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.evaluation import BlessRecord
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.record import Result
from contract.records.traffic import Arm, ChampionChange, TrafficPlan


def put_into_service(run: RunLayout, step: int, version: int = 1) -> None:
    """Write what `bless`, `package` and `promote` leave: the checkpoint of a step is champion."""
    now, config, layout = datetime.now(UTC), load_frozen(run), run.of_pipeline
    Result(
        step="bless",
        pipeline=run.pipeline,
        run_id=run.run_id,
        attempt=1,
        started_at=now,
        seconds=0.0,
        inputs={},
        artifacts={},
        detail=BlessRecord(
            is_blessed=True, candidate="candidate", step=step, champion_version=None, reasons=()
        ).model_dump(mode="json"),
    ).write(run.result("bless"))
    PackageManifest(
        pipeline=run.pipeline,
        version=version,
        created_at=now,
        digest="",
        inputs={name: InputSpec.of(feature) for name, feature in config.features.items()},
        heads=config.heads,
        serve=config.serve,
        provenance=Provenance(run_id=run.run_id, git_commit="", data_digests={}, versions={}),
    ).write(layout.package_manifest(version))
    TrafficPlan(
        pipeline=run.pipeline,
        arms=(Arm(name="stable", version=version, weight_percent=100),),
        champions=(ChampionChange(version=version),),
    ).write(layout.traffic_plan)
