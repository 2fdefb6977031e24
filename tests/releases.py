"""Runs that have come as far as `package`, made by hand: what `canary` and `promote` go on from."""

from datetime import UTC, datetime

from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord
from contract.records.package import LoadReport, PackageRecord
from contract.records.record import Record, Result
from contract.records.traffic import DeployRecord

_LOAD = LoadReport(
    requests=1, errors=0, seconds=1.0, requests_per_second=1.0, p50_ms=1.0, p95_ms=1.0, p99_ms=1.0
)


def leave_package(run: RunLayout, version: int, digest: str, compared_with: int | None) -> None:
    """Write the results of `bless`, which compared with that version, and of `package`."""
    blessed = BlessRecord(
        is_blessed=True, candidate="c", step=1, champion_version=compared_with, reasons=()
    )
    made = PackageRecord(version=version, digest=digest, load=_LOAD, max_skew=0.0)
    _leave(run, "bless", blessed)
    _leave(run, "package", made)


def leave_stage(run: RunLayout, stage: str, record: DeployRecord) -> None:
    """Write the result of `canary` or `promote`."""
    _leave(run, stage, record)


def _leave(run: RunLayout, step: str, record: Record) -> None:
    Result(
        step=step,
        pipeline=run.pipeline,
        run_id=run.run_id,
        attempt=1,
        started_at=datetime.now(UTC),
        seconds=0.0,
        inputs={},
        detail=record.model_dump(mode="json"),
    ).write(run.result(step))
