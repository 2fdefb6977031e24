import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.runs import retention
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.prediction_log.files import LogFile, hour_of
from contract.records.evaluation import BlessRecord
from contract.records.package import PackageManifest, Provenance
from contract.records.record import Record, Result
from contract.records.traffic import Arm, DeployRecord, Shadow, TrafficPlan
from contract.schema.data import HeadConfig
from contract.schema.pipeline import RetentionConfig
from contract.schema.serving import ServeConfig

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOTHING = TrafficPlan(pipeline="digits")
SERVE = ServeConfig()
FEW = RetentionConfig(runs=2, versions=2, log_days=30)


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path, "digits")


def serving(version: int, **more: object) -> TrafficPlan:
    arms = (Arm(name="stable", version=version, weight_percent=100),)
    return TrafficPlan(pipeline="digits", arms=arms).model_copy(update=more)


def age(path: Path, days: float) -> None:
    then = (NOW - timedelta(days=days)).timestamp()
    for found in [*path.rglob("*"), path]:
        os.utime(found, (then, then))


def add_version(
    layout: PipelineLayout,
    version: int,
    run: str,
    repeats: int | None = None,
    serve: ServeConfig = SERVE,
) -> None:
    PackageManifest(
        pipeline="digits",
        version=version,
        created_at=NOW,
        digest="sha256:0",
        inputs={},
        heads={"label": HeadConfig(task="regression")},
        serve=serve,
        provenance=Provenance(
            run_id=run, git_commit="", data_digests={}, versions={}, from_version=repeats
        ),
    ).write(layout.version(version) / "package.json")


def add_run(layout: PipelineLayout, run_id: str, days: float, **steps: Record) -> None:
    run = layout.run(run_id)
    (run.attempts("train")).mkdir(parents=True)
    (run.attempts("train") / "1").write_text("")
    for step, record in steps.items():
        Result(
            step=step,
            pipeline="digits",
            run_id=run_id,
            attempt=1,
            started_at=NOW,
            seconds=1.0,
            inputs={},
            detail=record.model_dump(mode="json"),
        ).write(run.result(step))
    age(run.path, days)


def ended(outcome: str = "promoted") -> DeployRecord:
    return DeployRecord.model_validate({"stage": "promote", "outcome": outcome, "version": 1})


def blessed(is_blessed: bool = True) -> BlessRecord:
    return BlessRecord(
        is_blessed=is_blessed, candidate="c", step=1, champion_version=None, reasons=()
    )


def runs(layout: PipelineLayout) -> list[str]:
    return sorted(p.name for p in layout.runs.iterdir())


def test_the_newest_versions_and_the_champion_are_kept(layout):
    for version in range(1, 6):
        add_version(layout, version, f"r{version}")
    removed = retention.apply(layout, FEW, serving(2), NOW)
    assert layout.kept_versions() == [2, 4, 5]
    assert removed.versions == (1, 3)


def test_what_a_plan_names_is_kept(layout):
    for version in range(1, 8):
        add_version(layout, version, f"r{version}")
    plan = TrafficPlan(
        pipeline="digits",
        arms=(
            Arm(name="stable", version=1, weight_percent=95),
            Arm(name="canary", version=2, weight_percent=5),
        ),
        shadow=Shadow(version=3, percent=10),
        standby=(4,),
    )
    retention.apply(layout, FEW, plan, NOW)
    assert layout.kept_versions() == [1, 2, 3, 4, 6, 7]


def test_a_version_put_in_the_stored_plan_meanwhile_is_kept(layout):
    for version in range(1, 5):
        add_version(layout, version, f"r{version}")
    serving(1).write(layout.traffic_plan)
    retention.apply(layout, FEW, serving(4), NOW)
    assert 1 in layout.kept_versions()


def test_old_ended_runs_are_removed(layout):
    for number in range(5):
        add_run(layout, f"r{number}", days=10 - number, promote=ended())
    removed = retention.apply(layout, FEW, NOTHING, NOW)
    assert runs(layout) == ["r3", "r4"]
    assert removed.runs == ("r0", "r1", "r2")


def test_the_runs_behind_what_serves_are_kept(layout):
    for number in range(5):
        add_run(layout, f"r{number}", days=10 - number, promote=ended())
    add_version(layout, 1, "r0")
    add_version(layout, 2, "r1", repeats=1)
    retention.apply(layout, FEW, serving(2), NOW)
    assert runs(layout) == ["r0", "r1", "r3", "r4"]


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {"bless": blessed()},
        {"bless": blessed(), "canary": ended("passed")},
        {"bless": blessed(), "canary": ended("first")},
    ],
)
def test_a_run_that_may_go_on_is_kept(layout, steps):
    add_run(layout, "going", days=3, **steps)
    for number in range(3):
        add_run(layout, f"r{number}", days=1, promote=ended())
    retention.apply(layout, FEW, NOTHING, NOW)
    assert "going" in runs(layout)


@pytest.mark.parametrize(
    "steps",
    [
        {"bless": blessed(False)},
        {"bless": blessed(), "canary": ended("rolled_back")},
        {"bless": blessed(), "canary": ended("inconclusive")},
    ],
)
def test_a_run_that_was_turned_away_has_ended(layout, steps):
    add_run(layout, "over", days=3, **steps)
    for number in range(3):
        add_run(layout, f"r{number}", days=1, promote=ended())
    retention.apply(layout, FEW, NOTHING, NOW)
    assert "over" not in runs(layout)


def test_a_run_abandoned_for_more_than_a_week_is_removed(layout):
    add_run(layout, "abandoned", days=8)
    for number in range(3):
        add_run(layout, f"r{number}", days=1, promote=ended())
    retention.apply(layout, FEW, NOTHING, NOW)
    assert "abandoned" not in runs(layout)


def add_log(layout: PipelineLayout, version: int, days: float, kilobytes: int = 1) -> Path:
    """Make a file of the hour so many days ago, as large as asked."""
    hour = hour_of(NOW - timedelta(days=days))
    path = LogFile(hour, "host-1-a", 0, 9, layout.predictions(version)).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(kilobytes << 10))
    return path


def test_prediction_logs_go_by_age_and_with_their_version(layout):
    for version in (1, 2, 3):
        add_version(layout, version, f"r{version}")
        add_log(layout, version, days=31)
        add_log(layout, version, days=29)
    new = add_log(layout, 2, days=29)
    old_form = layout.predictions(2) / "00000001.jsonl"
    old_form.write_text("{}")
    age(old_form, 31)
    removed = retention.apply(layout, FEW, serving(3), NOW)
    assert not layout.predictions(1).exists()
    assert [p for p in layout.predictions(2).rglob("*") if p.is_file()] == [new]
    assert removed.logs == 3


@pytest.mark.parametrize(("days", "kept"), [(30, [1, 20]), (10, [1])])
def test_the_stricter_of_both_ages_holds_for_a_prediction_log(layout, days, kept):
    add_version(layout, 3, "r3", serve=ServeConfig(prediction_log_days=days))
    logs = {age: add_log(layout, 3, age) for age in (1, 20, 40)}
    retention.apply(layout, FEW, serving(3), NOW)
    assert [age for age, path in logs.items() if path.exists()] == kept


def test_the_oldest_answers_go_where_a_prediction_log_is_too_large(layout):
    add_version(layout, 3, "r3", serve=ServeConfig(prediction_log_max_mb=2.5))
    logs = {age: add_log(layout, 3, age, kilobytes=1024) for age in (1, 2, 3, 4)}
    removed = retention.apply(layout, FEW, serving(3), NOW)
    assert [age for age, path in logs.items() if path.exists()] == [1, 2]
    assert removed.logs == 2


def test_labels_and_half_made_versions_are_left_alone(layout):
    delta = layout.label_deltas / "1-abc.csv"
    delta.parent.mkdir(parents=True)
    delta.write_text("a,b")
    age(delta, 400)
    (layout.versions / ".7.tmp-x").mkdir(parents=True)
    retention.apply(layout, FEW, NOTHING, NOW)
    assert delta.exists()
    assert (layout.versions / ".7.tmp-x").exists()


def test_nothing_there_is_nothing_to_remove(layout):
    assert retention.apply(layout, FEW, NOTHING, NOW) == retention.Removed()


def test_several_at_once_remove_each_thing_once(layout):
    for version in range(1, 21):
        add_version(layout, version, f"r{version}")
        add_run(layout, f"r{version}", days=30 - version, promote=ended())
    found: list[retention.Removed] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(retention.apply(layout, FEW, serving(20), NOW))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(v for removed in found for v in removed.versions) == list(range(1, 19))
    assert sorted(len(removed.runs) for removed in found) == [0, 0, 0, 18]
    assert list(layout.versions.glob(".*")) == []


def test_a_plan_that_cannot_be_read_stops_the_removal(layout):
    for version in range(1, 5):
        add_version(layout, version, f"r{version}")
    layout.traffic_plan.parent.mkdir(parents=True)
    layout.traffic_plan.write_text("{")
    with pytest.raises(DataError, match=r"plan.json"):
        retention.apply(layout, FEW, NOTHING, NOW)
    assert layout.kept_versions() == [1, 2, 3, 4]
