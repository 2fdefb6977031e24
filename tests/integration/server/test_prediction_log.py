"""The prediction log of a real server that is killed while it writes."""

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from contract.prediction_log.files import complete_files
from contract.prediction_log.reading import predictions_of, read_tables
from contract.prediction_log.removing import tidy_log
from contract.records.optimization import ServedEngine
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

PREDICT = "/v1/models/digits:predict"
STARTS = 10
FLUSH_SECONDS = 2.0
SLACK_SECONDS = 4.0  # of a machine that does other work, too


@pytest.fixture(scope="module")
def litert_package(digits_model, packed, tmp_path_factory) -> Path:
    """A package whose server starts within a second."""
    from components.optimize.engines.core import Core
    from components.optimize.engines.kinds import KINDS, make

    folder = tmp_path_factory.mktemp("litert")
    for name in ("parts", "engine"):
        (folder / name).mkdir()
    rows = {"image": np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)}
    make(Core.of(digits_model, rows, folder / "parts"), KINDS["litert"], folder / "engine")
    digest = digest_directory(folder / "engine")
    engine = ServedEngine(name="litert", path="engine", digest=digest, tolerance=1e-4)
    serve = ServeConfig(prediction_log_inputs_ratio=1.0)
    package = packed(digits_model, folder / "3", engine=engine, serve=serve)
    (package / "engine").symlink_to(folder / "engine")
    return package


def logged(folder: Path) -> list[str]:
    """Return the ids of all requests, as a reader of the log finds them."""
    return [i for table in read_tables(folder) for i in table["request_id"].to_pylist()]


@pytest.mark.thorough
def test_ten_kills_lose_nothing_that_was_written_and_leave_no_half_file(
    litert_package, launch, tmp_path
):
    folder, image = tmp_path / "predictions", [0.5] * 64
    seen: Counter[str] = Counter()
    for start in range(STARTS):
        server = launch("--package", litert_package, "--port", 0, "--predictions", folder)
        server.wait_ready()
        before, answered = len(complete_files(folder)), dict[str, float]()
        # Killed at another moment of its rhythm each time, while requests are coming.
        until = None
        while until is None or time.monotonic() < until:
            request_id = f"{start}-{len(answered)}"
            headers = {"x-request-id": request_id}
            assert server.send(PREDICT, {"instances": [image]}, headers)[0] == 200
            answered[request_id] = time.monotonic()
            if until is None and len(complete_files(folder)) > before:
                until = time.monotonic() + start * (FLUSH_SECONDS + 0.2) / STARTS
        server.process.kill()
        server.process.wait()
        killed = time.monotonic()

        for path in folder.rglob("*.parquet"):
            assert pq.ParquetFile(path).read().num_rows > 0
        found = Counter(logged(folder))
        assert seen <= found, "what was written before is still there"
        seen = found
        new = [request_id for request_id in answered if request_id in found]
        assert new == [*answered][: len(new)], "only the youngest answers are lost"
        lost = [
            killed - moment for request_id, moment in answered.items() if request_id not in found
        ]
        assert max(lost, default=0.0) < FLUSH_SECONDS + SLACK_SECONDS
    assert set(seen.values()) == {1}
    assert {request_id.partition("-")[0] for request_id in seen} == set(map(str, range(STARTS)))
    records = [one for table in read_tables(folder) for one in predictions_of(table)]
    assert {json.dumps(one.inputs) for one in records} == {json.dumps({"image": image})}

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert tidy_log(folder, ServeConfig(), tomorrow) == 0
    assert Counter(logged(folder)) == seen
    servers = {(file.hour, file.server) for file in complete_files(folder)}
    assert len([path for path in folder.rglob("*") if path.is_file()]) == len(servers)
