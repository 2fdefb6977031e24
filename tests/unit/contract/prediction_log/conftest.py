from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile
from contract.prediction_log.writing import write_rows
from contract.schema.data import HeadConfig

HOUR = datetime(2026, 11, 29, 15, tzinfo=UTC)
HEADS = {"price": HeadConfig(task="regression")}

Write = Callable[..., LogFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes rows `first` to `end - 1`, each a request named by its row."""

    def write_file(
        first: int, end: int, server: str = "host-1-a", hour: datetime = HOUR
    ) -> LogFile:
        rows = [
            {
                "time": hour,
                "request_id": f"{server}:{number}",
                "row": 0,
                "version": 3,
                "arm": "stable",
                "signature": "serving_default",
                "status": 200,
                "latency_seconds": 0.25,
                "predicted:price": float(number),
            }
            for number in range(first, end)
        ]
        file = LogFile(hour, server, first, end, tmp_path)
        write_rows(file, pa.Table.from_pylist(rows, log_schema(HEADS)))
        return file

    return write_file
