"""A logged row as the page gets it: small, with names, and only if it is wanted."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from live_log import LiveLog

from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.records.prediction import Prediction
from serving.labels.stream.rows import LiveRow, Wanted, live_row


@pytest.fixture
def manifest(tmp_path: Path) -> PackageManifest:
    layout = PipelineLayout(tmp_path, "digits")
    LiveLog(layout).package()
    return PackageManifest.read(layout.package_manifest(1))


def predicted(**changes: Any) -> Prediction:
    place = {"request_id": "r", "row": 0, "version": 1, "arm": "stable"}
    answer = {"signature": "predict", "status": 200, "latency_seconds": 0.0125}
    said = {"predicted": {"digit": 7}, "confidence": {"digit": 0.75}}
    time = datetime(2026, 11, 30, 2, 3, 4, tzinfo=UTC)
    return Prediction(**{"time": time, **place, **answer, **said, **changes})


def test_a_row_has_the_class_and_its_score_and_the_picture(manifest: PackageManifest) -> None:
    inputs = {"image": [[0.0] * 7 + [1.0]] * 8, "note": b"caf\xc3\xa9"}
    found = live_row(predicted(inputs=inputs), manifest).as_json
    assert found["answers"] == [{"head": "digit", "label": "7", "confidence": 0.75}]
    assert (found["time"], found["ms"], found["version"], found["arm"]) == (
        "02:03:04",
        12.5,
        1,
        "stable",
    )
    assert found["pictures"][0]["source"].startswith("data:image/png;base64,")
    assert found["cells"] == [("note", "café")]


def test_a_class_without_its_package_is_its_number_and_one_that_is_none_too(
    manifest: PackageManifest,
) -> None:
    for value, known in ((7, None), (99, manifest), (-1, manifest)):
        (answer,) = live_row(predicted(predicted={"digit": value}), known).answers
        assert answer.label == str(value)


def test_what_is_large_is_cut_or_told_in_words(manifest: PackageManifest) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(50_000)
    inputs = {"note": b"x" * 10_000, "photo": picture, "odd": b"\x00\xff"}
    found = live_row(predicted(inputs=inputs), manifest).as_json
    cells = dict(found["cells"])
    assert found["pictures"] == [] and len(cells["note"]) == 300
    assert cells["photo: picture, 50,008 bytes"] == "too large"
    many = live_row(predicted(inputs={f"f{n}": n for n in range(1_000)}), manifest).as_json
    assert len(many["cells"]) == 40


def test_a_score_that_is_no_number_is_none(manifest: PackageManifest) -> None:
    odd = predicted(confidence={"digit": float("nan")}, inputs={"x": float("inf")})
    found = live_row(odd, manifest)
    assert found.answers[0].confidence is None and found.as_json["cells"] == [("x", "–")]
    assert not Wanted(below=1.0).has(found)


@pytest.mark.parametrize(
    ("wanted", "is_seen"),
    [
        (Wanted(), True),
        (Wanted(version=1, arm="stable", label="7", below=0.8), True),
        (Wanted(version=2), False),
        (Wanted(arm="canary"), False),
        (Wanted(label="8"), False),
        (Wanted(below=0.75), False),
    ],
)
def test_only_rows_that_somebody_wants_are_seen(
    manifest: PackageManifest, wanted: Wanted, is_seen: bool
) -> None:
    row: LiveRow = live_row(predicted(), manifest)
    assert wanted.has(row) == is_seen


def test_a_refused_request_has_no_class_to_be_asked_for(manifest: PackageManifest) -> None:
    refused = live_row(predicted(status=400, predicted={}, confidence={}), manifest)
    assert Wanted().has(refused) and refused.as_json["status"] == 400
    assert not Wanted(label="7").has(refused) and not Wanted(below=1.0).has(refused)
