"""Validation over several runs: what is first, what has changed, what stops a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.errors import DataError
from contract.records.data import Anomaly, ValidateRecord
from contract.records.record import Result
from contract.schema.data import SPLITS

from .conftest import COLUMNS, Workshop, as_csv, people

Edit = Callable[[str, Any], None]
Row = tuple[str, str, str, str]


def anomalies(result: Result) -> dict[str, Anomaly]:
    found = result.detail_as(ValidateRecord).anomalies
    return {f"{anomaly.kind} {anomaly.feature}": anomaly for anomaly in found}


def run(shop: Workshop, run_id: str, change: Callable[[Row], Row] | None = None) -> Result:
    if change is not None:
        shop.files["people.csv"] = as_csv([change(row) for row in people(300)])
    return shop.run("ingest", "validate", run_id=run_id)


def test_the_first_run_makes_the_schema_and_the_second_finds_nothing(workshop: Workshop) -> None:
    first = run(workshop, "first")
    assert anomalies(first) == {}
    schema = json.loads(workshop.layout().of_pipeline.data_schema.read_text())
    by_name = {feature["name"]: feature for feature in schema["feature"]}
    assert sorted(by_name["job"]["string_domain"]["value"]) == ["clerk", "cook", "smith"]
    assert by_name["age"]["int_domain"] == {"min": "0", "max": "120"}
    second = run(workshop, "second")
    record = second.detail_as(ValidateRecord)
    assert (record.anomalies, record.compared_with_run) == ((), "first")
    assert second.metrics["max_drift"] == 0.0
    folder = workshop.layout("second").step("validate")
    assert (folder / "distributions.png").stat().st_size > 10_000


def test_statistics_say_what_is_in_the_data(workshop: Workshop) -> None:
    result = run(workshop, "first")
    path = workshop.layout("first").step("validate") / result.detail["statistics"]
    splits = json.loads(path.read_text())["splits"]
    assert sum(split["age"]["rows"] for split in splits.values()) == 300
    jobs = [split["job"]["most_common"].get("cook", 0) for split in splits.values()]
    assert sum(jobs) == sum(job == "cook" for _, job, _, _ in people(300))
    labels = [split["label:income"]["most_common"].get(">50K", 0) for split in splits.values()]
    assert sum(labels) == sum(label == ">50K" for *_, label in people(300))


def test_a_shifted_number_and_a_new_category_are_told_once(workshop: Workshop) -> None:
    run(workshop, "first")
    second = run(workshop, "second", lambda r: (str(int(r[0]) + 40), "pilot", r[2], r[3]))
    found = anomalies(second)
    assert found.keys() >= {"drift age", "drift job", "new_category job"}
    assert found["drift job"].value == pytest.approx(1.0)
    assert found["new_category job"].value == 1.0
    assert not any(anomaly.is_fatal for anomaly in found.values())
    assert anomalies(run(workshop, "third")) == {}


def test_drift_that_the_config_calls_fatal_stops_the_run(workshop: Workshop, edit: Edit) -> None:
    run(workshop, "first")
    edit("validate", {"fail_on": ["drift"]})
    with pytest.raises(DataError, match=r"1 anomalies that validate.fail_on names \(drift\)") as e:
        run(workshop, "second", lambda r: (r[0], "pilot", r[2], r[3]))
    assert "new_category: job: 100.0% of values are not in the schema in force ('pilot')" in str(
        e.value
    )
    assert not workshop.layout("second").step("validate").exists()


def test_missing_values_beyond_the_limit_are_told(workshop: Workshop) -> None:
    seen = iter(range(300))
    found = anomalies(
        run(workshop, "first", lambda r: (r[0], "?" if next(seen) % 3 else r[1], r[2], r[3]))
    )
    assert found["missing job"].value == pytest.approx(2 / 3, abs=0.01)


def test_a_column_without_any_value_stops_the_run(workshop: Workshop) -> None:
    with pytest.raises(DataError, match="missing_column: job: no row has a value"):
        run(workshop, "first", lambda r: (r[0], "", r[2], r[3]))
    assert not workshop.layout().of_pipeline.data_schema.exists()


def test_another_type_than_the_schemas_stops_the_run(workshop: Workshop, edit: Edit) -> None:
    run(workshop, "first")
    edit("features.age", {"dtype": "float32"})
    with pytest.raises(DataError, match="type: age: is float32, the schema in force says int64"):
        run(workshop, "second")


def test_a_range_is_what_the_config_declares_or_what_was_seen_before(
    workshop: Workshop, edit: Edit
) -> None:
    run(workshop, "first")
    edit("features.age", {"dtype": "int64"})
    found = anomalies(run(workshop, "second", lambda r: (str(int(r[0]) * 5), *r[1:])))
    assert found["range age"].limit == 120
    assert found["range age"].value == 395  # the oldest of `people` is 79
    assert "if this is intended, set features.age.maximum in" in found["range age"].message
    edit("features.age.maximum", 500)
    assert anomalies(run(workshop, "third")) == {}
    schema = json.loads(workshop.layout().of_pipeline.data_schema.read_text())
    (age,) = (feature for feature in schema["feature"] if feature["name"] == "age")
    assert age["int_domain"] == {"min": "0", "max": "500"}


def test_columns_that_come_and_go_are_told(workshop: Workshop, edit: Edit) -> None:
    run(workshop, "first")
    rows = [(*row, "x") for row in people(300)]
    workshop.files["people.csv"] = as_csv(rows, (*COLUMNS, "shoe_size"))
    del workshop.config["features"]["words"]
    found = anomalies(run(workshop, "second"))
    assert found.keys() == {"missing_column words", "new_column shoe_size"}
    assert not found["missing_column words"].is_fatal


def test_a_truncated_shard_is_found(workshop: Workshop) -> None:
    workshop.run("ingest")
    (shard,) = workshop.shards("ingest", "train")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match="train-00000-of-00001"):
        workshop.run("validate")


def test_a_damaged_schema_in_force_is_refused(workshop: Workshop) -> None:
    path: Path = workshop.layout().of_pipeline.data_schema
    path.parent.mkdir(parents=True)
    path.write_text("{not a schema")
    with pytest.raises(DataError, match=r"schema\.json: not a schema"):
        run(workshop, "first")


def test_what_leaks_between_splits_is_told_and_fails_only_by_config(
    workshop: Workshop, edit: Edit
) -> None:
    rows = [
        (str(20 + n % 41), "rich" if label == ">50K" else "poor", "w", label, f"user{n % 50}", part)
        for n, (_, _, _, label) in enumerate(people(1200))
        for part in [("train", "train", "eval", "test")[n // 2 % 4]]
    ]
    workshop.files["people.csv"] = as_csv(rows, (*COLUMNS, "user", "part"))
    edit("ingest.split", {"by": "column", "column": "part", "group": "user"})
    result = run(workshop, "first")
    found = anomalies(result)
    assert found.keys() == {
        "repeated_rows eval",
        "repeated_rows test",
        "parted_groups ingest.split.group",
        "leaking_feature job",
    }
    assert found["leaking_feature job"].value == 1.0
    assert not any(anomaly.is_fatal for anomaly in found.values())
    record = result.detail_as(ValidateRecord)
    contents = {part: [row[:3] for row in rows if row[5] == part] for part in SPLITS}
    earlier = {"eval": {*contents["train"]}, "test": {*contents["train"], *contents["eval"]}}
    assert record.repeated_rows == {
        split: sum(row in earlier[split] for row in contents[split]) for split in ("eval", "test")
    }
    shares = record.labels["income"]["train"]
    labels = [row[3] for row in rows if row[5] == "train"]
    assert shares == {name: labels.count(name) / 600 for name in ("<=50K", ">50K")}
    assert any(reason.startswith("income: '>50K' is ") for reason in result.reasons)
    edit("validate", {"fail_on": ["leaking_feature"]})
    with pytest.raises(DataError, match=r"1 anomalies that validate.fail_on names \(leaking_fea"):
        run(workshop, "second")
