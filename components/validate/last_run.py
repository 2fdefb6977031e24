"""The run to compare with: the latest other one whose data was found good."""

import logging
from dataclasses import dataclass

from components.validate.statistics import DataStatistics
from contract.errors import SlipwayError
from contract.layout import RunLayout
from contract.records.data import IngestRecord, ValidateRecord
from contract.records.record import Result

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class LastRun:
    """What the last run knew of its data; `columns` are its source's."""

    run_id: str
    statistics: DataStatistics
    columns: tuple[str, ...]


def find_last_run(run: RunLayout) -> LastRun | None:
    """Return the latest run but this one that has a whole result of `validate`."""
    results = []
    for path in run.of_pipeline.runs.glob("*/validate/result.json"):
        if path == run.result("validate"):
            continue
        try:
            results.append(Result.read(path))
        except SlipwayError as error:
            log.warning("validate: not compared with %s: %s", path.parent.parent.name, error)
    for result in sorted(results, key=lambda r: r.started_at, reverse=True):
        if (last := _read(run.of_pipeline.run(result.run_id), result)) is not None:
            return last
    return None


def _read(run: RunLayout, result: Result) -> LastRun | None:
    try:
        record = result.detail_as(ValidateRecord)
        statistics = DataStatistics.read(run.step("validate") / record.statistics)
    except (SlipwayError, ValueError) as error:
        log.warning("validate: not compared with run %s: %s", run.run_id, error)
        return None
    try:
        columns = Result.read(run.result("ingest")).detail_as(IngestRecord).columns
    except SlipwayError:
        columns = ()
    return LastRun(run.run_id, statistics, columns)
