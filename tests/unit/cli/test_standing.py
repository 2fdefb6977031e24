"""Where a pipeline stands, by what its runs have left."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from cli.services import artifact_root
from cli.standing import render, standing_of
from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.record import Failure
from contract.records.traffic import Arm, BadVersion, TrafficPlan
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig


def leave_failure(layout: PipelineLayout, attempt: int) -> None:
    run = layout.run("r1")
    run.attempts("train").mkdir(parents=True, exist_ok=True)
    (run.attempts("train") / str(attempt)).touch()
    Failure(
        step="train",
        attempt=attempt,
        exit_code=2,
        reason="train: the loss is [nan]",
        failed_at=datetime(2026, 1, 1, tzinfo=UTC),
    ).write(run.failure("train"))


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    del tmp_path
    return PipelineLayout(artifact_root(), "digits")


def test_a_failed_run_is_shown_with_its_step_and_reason(layout: PipelineLayout) -> None:
    leave_failure(layout, 1)
    standing = standing_of("digits", 5)
    (run,) = standing["runs"]
    assert (run["outcome"], run["failed_step"]) == ("failed", "train")
    console = Console(width=200)
    with console.capture() as shown:
        console.print(*render(standing), sep="\n")
    assert "r1 failed in 'train': train: the loss is [nan]" in shown.get()


def test_a_run_whose_step_is_tried_again_has_not_failed(layout: PipelineLayout) -> None:
    leave_failure(layout, 1)
    (layout.run("r1").attempts("train") / "2").touch()
    (run,) = standing_of("digits", 5)["runs"]
    assert (run["outcome"], run["failed_step"]) == ("unfinished", "")


def keep_version(layout: PipelineLayout, version: int) -> None:
    folder = layout.version(version)
    (folder / "model").mkdir(parents=True)
    PackageManifest(
        pipeline="digits",
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest="sha256:0",
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("0", "1"))},
        serve=ServeConfig(),
        provenance=Provenance(run_id="r1", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")


def test_a_version_shows_what_it_is_in_the_plan(layout: PipelineLayout) -> None:
    for version in (1, 2, 3):
        keep_version(layout, version)
    TrafficPlan(
        pipeline="digits",
        generation=3,
        arms=(
            Arm(name="stable", version=1, weight_percent=95),
            Arm(name="canary", version=3, weight_percent=5),
        ),
        bad=(BadVersion(version=2, author="ada"),),
    ).write(layout.traffic_plan)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(*render(standing_of("digits", 5)), sep="\n")
    roles = {
        line.split()[0]: line.split("KiB")[-1].strip() for line in shown.get().splitlines()[2:5]
    }
    assert roles == {"1": "champion", "2": "bad: ada rolled back from it", "3": "canary"}
