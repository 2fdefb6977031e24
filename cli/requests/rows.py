"""Rows to send to a model: from a file, or from the test split of a pipeline's last run."""

import json
import sys
from pathlib import Path
from typing import Any

from cli.output import quietly
from contract.errors import DataError, NotFoundError
from contract.layout import PipelineLayout, RunLayout
from contract.records.data import IngestRecord
from contract.strict_json import once

MOST_ROWS = 1000


def rows_from_file(path: Path) -> list[Any]:
    """Read rows from a JSON file: a list, one row, `{"instances": [...]}`; `-` is stdin.

    Raises:
        DataError: If it is not JSON, has a key twice in one row, holds no rows, or something that
            cannot be sent: a number beyond float64, half of a surrogate pair.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
        raw = json.loads(text, parse_constant=_refuse, object_pairs_hook=once)
        json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()  # as it will be sent
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(
            f'{path}: not JSON: {error}; expected a list of rows, as in [{{"feature": 1.5}}]'
        ) from error
    if isinstance(raw, dict) and "instances" in raw:
        raw = raw["instances"]
    rows = raw if isinstance(raw, list) else [raw]
    if not rows:
        raise DataError(f"{path}: no rows; expected at least one")
    return rows


def rows_of_last_run(pipeline: PipelineLayout) -> list[dict[str, Any]]:
    """Return rows of the test split of the latest run that has ingested, as callers send them."""
    from contract.loader import load_frozen

    run, ingested = _last_ingestion(pipeline)
    shards = [run.step("ingest") / shard for shard in ingested.shards["test"]]
    with quietly():
        from components.data.raw_examples import read_raw, to_rows

        return to_rows(read_raw(shards, load_frozen(run), MOST_ROWS))


def _refuse(constant: str) -> None:
    """Refuse what Python's parser takes for a number, and JSON does not know."""
    raise ValueError(f"found {constant}; numbers are finite")


def _last_ingestion(pipeline: PipelineLayout) -> tuple[RunLayout, IngestRecord]:
    from cli.runs.outcome import read_result
    from cli.runs.standing import latest_runs

    for run in latest_runs(pipeline):
        if (result := read_result(run, "ingest")) is not None:
            return run, result.detail_as(IngestRecord)
    raise NotFoundError(
        f"{pipeline.pipeline}: no run has ingested data yet; give a file of rows with --file, "
        f"or run 'slipway run {pipeline.pipeline} --local'"
    )
