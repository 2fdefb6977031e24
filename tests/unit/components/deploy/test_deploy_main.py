"""Both stages through the component's own door, with their records on storage."""

import json
from datetime import UTC, datetime

import pytest

from components.deploy.__main__ import work
from components.runs.step import run_step
from contract.command import StepCommand
from contract.errors import UserError
from contract.layout import PipelineLayout
from contract.loader import freeze_pipeline
from contract.records.evaluation import BlessRecord
from contract.records.package import LoadReport, PackageManifest, PackageRecord
from contract.records.record import Record, Result
from contract.records.traffic import DeployRecord

CONFIG = """
name: digits
features: { image: { dtype: float32, shape: [64] } }
heads: { label: { task: binary_classification, classes: [a, b] } }
ingest: { source: { kind: sklearn, dataset: digits } }
"""


@pytest.fixture
def agent(world, agent_url, tmp_path, monkeypatch):
    """The stand-in agent, named by the environment as the component reads it."""
    (tmp_path / "token").write_text("a-token\n")
    monkeypatch.setenv("SLIPWAY_AGENT_URL", agent_url)
    monkeypatch.setenv("SLIPWAY_AGENT_TOKEN_FILE", str(tmp_path / "token"))
    return world


@pytest.fixture
def packaged(make_deployment, layout, tmp_path) -> PipelineLayout:
    """Run r2 has left a first package, version 2."""
    manifest: PackageManifest = make_deployment(compared_with=None).manifest
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(CONFIG)
    freeze_pipeline(folder, layout.run("r2"), {})
    blessed = BlessRecord(is_blessed=True, candidate="c", step=1, champion_version=None, reasons=())
    load = LoadReport(
        requests=1,
        errors=0,
        seconds=1.0,
        requests_per_second=1.0,
        p50_ms=1.0,
        p95_ms=1.0,
        p99_ms=1.0,
    )
    made = PackageRecord(version=2, digest=manifest.digest, load=load, max_skew=0.0)
    leave(layout, "bless", blessed)
    leave(layout, "package", made)
    return layout


def leave(layout: PipelineLayout, step: str, record: Record) -> None:
    Result(
        step=step,
        pipeline="digits",
        run_id="r2",
        attempt=1,
        started_at=datetime.now(UTC),
        seconds=0.0,
        inputs={},
        detail=record.model_dump(mode="json"),
    ).write(layout.run("r2").result(step))


def test_both_stages_leave_their_records(agent, packaged):
    for step, outcome in (("canary", "first"), ("promote", "promoted")):
        result = run_step(StepCommand(step, "digits", "r2", str(packaged.root)), work)
        assert result.detail_as(DeployRecord).outcome == outcome
        assert result.reasons[0] == outcome
        assert json.loads(packaged.run("r2").result(step).read_text())["step"] == step
    assert agent.plan.champion == 2
    assert agent.plan.author == "run r2"


def test_without_an_agent_named_it_says_what_to_set(packaged, tmp_path):
    command = StepCommand("canary", "digits", "r2", str(packaged.root))
    with pytest.raises(UserError, match="SLIPWAY_AGENT_URL and SLIPWAY_AGENT_TOKEN_FILE: not set"):
        run_step(command, work)
