"""Provenance: what a package says of its origin."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from components.package.provenance import library_versions, provenance_of
from contract.layout import RunLayout
from contract.records.record import Artifact, Result


def test_versions_name_python_and_tensorflow() -> None:
    versions = library_versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["tensorflow"]


def test_data_digests_are_those_of_the_runs_steps(tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "tiny", "r")
    run.frozen_pipeline.mkdir(parents=True)
    Result(
        step="ingest",
        pipeline="tiny",
        run_id="r",
        attempt=1,
        started_at=datetime.now(UTC),
        seconds=1.0,
        inputs={},
        artifacts={"examples": Artifact(path="examples", digest="sha256:7", size_bytes=1)},
    ).write(run.result("ingest"))
    provenance = provenance_of(run)
    assert provenance.run_id == "r"
    assert provenance.data_digests["ingest/examples"] == "sha256:7"
    assert set(provenance.data_digests) == {"pipeline", "ingest/examples"}
