"""Records: versions, refusals and the rules of a traffic plan."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from contract.errors import DataError, NotFoundError
from contract.records.record import Record, Upgrade
from contract.records.traffic import Arm, DeployRecord, Shadow, TrafficPlan


class Parcel(Record):
    """A record in its second version: `kilograms` was `pounds` in the first."""

    current_version: ClassVar[int] = 2
    upgrades: ClassVar[dict[int, Upgrade]] = {
        1: lambda raw: {"kilograms": raw["pounds"] * 0.5, **raw},
    }

    kilograms: float


def test_a_record_is_written_with_its_version_and_read_back(tmp_path: Path) -> None:
    Parcel(kilograms=3.0).write(tmp_path / "parcel.json")

    assert json.loads((tmp_path / "parcel.json").read_text())["record_version"] == 2
    assert Parcel.read(tmp_path / "parcel.json") == Parcel(kilograms=3.0)


def test_an_older_record_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "parcel.json").write_text('{"record_version": 1, "pounds": 4}')

    assert Parcel.read(tmp_path / "parcel.json").kilograms == 2.0


def test_a_newer_record_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "parcel.json").write_text('{"record_version": 3, "kilograms": 4}')

    with pytest.raises(DataError, match="newer than this Slipway reads"):
        Parcel.read(tmp_path / "parcel.json")


@pytest.mark.parametrize("version", ['"2"', "null", "0", "-1", "1.5", "[2]", "{}"])
def test_a_version_that_is_none_is_refused(tmp_path: Path, version: str) -> None:
    text = f'{{"record_version": {version}, "kilograms": 4}}'
    (tmp_path / "parcel.json").write_text(text)

    with pytest.raises(DataError, match="record_version: found .*, expected a number from 1 to 2"):
        Parcel.read(tmp_path / "parcel.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kilograms": "heavy"}'])
def test_a_broken_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "parcel.json").write_text(text)

    with pytest.raises(DataError, match="not a Parcel"):
        Parcel.read(tmp_path / "parcel.json")


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no Parcel there"):
        Parcel.read(tmp_path / "parcel.json")


def arms(*weights: int) -> tuple[Arm, ...]:
    names: tuple[Any, ...] = ("stable", "canary")
    return tuple(
        Arm(name=name, version=number, weight_percent=weight)
        for number, (name, weight) in enumerate(zip(names, weights, strict=False), start=1)
    )


def test_a_plan_knows_who_must_run() -> None:
    plan = TrafficPlan(
        pipeline="digits", arms=arms(95, 5), shadow=Shadow(version=7, percent=10), standby=(9,)
    )

    assert plan.champion == 1
    assert plan.canary is not None
    assert plan.canary.version == 2
    assert plan.versions == {1, 2, 7, 9}


def test_weights_that_do_not_sum_to_100_are_refused() -> None:
    with pytest.raises(ValueError, match="must sum to 100 percent, found 96"):
        TrafficPlan(pipeline="digits", arms=arms(95, 1))


def test_one_version_cannot_be_two_arms() -> None:
    twice = tuple(arm.model_copy(update={"version": 1}) for arm in arms(50, 50))

    with pytest.raises(ValueError, match="arm versions repeat"):
        TrafficPlan(pipeline="digits", arms=twice)


@pytest.mark.parametrize(
    ("outcome", "has_passed", "continues_run", "is_in_service"),
    [
        ("passed", True, True, False),
        ("first", True, True, True),
        ("promoted", False, True, True),
        ("rolled_back", False, False, False),
        ("inconclusive", False, False, False),
        ("refused", False, False, False),
    ],
)
def test_what_follows_from_an_outcome(
    outcome: Any, has_passed: bool, continues_run: bool, is_in_service: bool
) -> None:
    record = DeployRecord(stage="canary", outcome=outcome, version=1)
    found = (record.has_passed, record.continues_run, record.is_in_service)
    assert found == (has_passed, continues_run, is_in_service)
