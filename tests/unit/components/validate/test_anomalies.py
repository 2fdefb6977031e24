"""Anomalies: schema, domains and limits compared, and which of them are fatal."""

from typing import Any

import pytest

from components.validate.anomalies import Comparison, find_anomalies
from components.validate.scan import Scan
from components.validate.schemas import infer_schema, range_of
from components.validate.statistics import ColumnStatistics, DataStatistics
from components.validate.validate import refuse
from contract.errors import DataError
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig


def make_config(**features: Any) -> PipelineConfig:
    raw = {
        "name": "people",
        "features": {"age": {"dtype": "int64"}, "job": {"dtype": "string"}, **features},
        "heads": {"income": {"task": "binary_classification", "classes": ["low", "high"]}},
        "ingest": {"source": {"kind": "csv", "files": ["people.csv"]}},
    }
    return validate(PipelineConfig, raw, "people")


def numeric(low: float, high: float, missing: int = 0) -> ColumnStatistics:
    return ColumnStatistics(
        kind="numeric", rows=100, missing=missing, values=100 - missing, minimum=low, maximum=high
    )


def categorical(**counts: int) -> ColumnStatistics:
    total = sum(counts.values())
    return ColumnStatistics(
        kind="categorical",
        rows=100,
        missing=0,
        values=total,
        distinct=len(counts),
        most_common=counts,
    )


def statistics(**columns: ColumnStatistics) -> DataStatistics:
    labels = {"label:income": categorical(low=50, high=50)}
    return DataStatistics(splits={"train": {**columns, **labels}})


FIRST = statistics(age=numeric(20, 60), job=categorical(cook=100))


def compare(now: DataStatistics, outside: dict[str, int] | None = None) -> Comparison:
    config = make_config()
    in_force = infer_schema(config, FIRST, None)
    scan = Scan(now, {}, outside or {})
    return Comparison(config.validate_, scan, infer_schema(config, now, in_force), in_force, {})


def kinds(comparison: Comparison) -> list[str]:
    return [f"{anomaly.kind} {anomaly.feature}" for anomaly in find_anomalies(comparison)]


def test_the_same_data_has_no_anomalies() -> None:
    assert kinds(compare(FIRST)) == []


def test_a_learned_range_is_as_wide_again_on_either_side() -> None:
    schema = infer_schema(make_config(), FIRST, None)
    # Seen 20 to 60, so 40 wide: -20 to 100 is allowed.
    assert range_of(schema.feature[0]) == (-20, 100)
    assert kinds(compare(statistics(age=numeric(-20, 100), job=categorical(cook=1)))) == []
    beyond = compare(statistics(age=numeric(-21, 101), job=categorical(cook=1)))
    assert kinds(beyond) == ["range age", "range age"]


def test_new_categories_below_the_limit_are_accepted_and_then_in_force() -> None:
    now = statistics(age=numeric(20, 60), job=categorical(cook=97, pilot=3))
    comparison = compare(now, {"job": 3})
    assert kinds(comparison) == []
    job = comparison.schema.feature[1]
    assert list(job.string_domain.value) == ["cook", "pilot"]
    assert kinds(compare(now, {"job": 6})) == ["new_category job"]


def test_a_column_with_very_many_categories_has_no_list_of_them() -> None:
    many = categorical(cook=100).model_copy(update={"distinct": 1001})
    schema = infer_schema(make_config(), statistics(age=numeric(1, 2), job=many), None)
    assert not schema.feature[1].HasField("string_domain")


def test_missing_values_are_told_beyond_the_limit_only() -> None:
    job = categorical(cook=100)
    assert kinds(compare(statistics(age=numeric(20, 60, missing=50), job=job))) == []
    assert kinds(compare(statistics(age=numeric(20, 60, missing=51), job=job))) == ["missing age"]
    gone = numeric(20, 60, missing=100).model_copy(update={"minimum": None, "maximum": None})
    assert kinds(compare(statistics(age=gone, job=job))) == ["missing_column age"]


def test_only_the_kinds_that_the_config_names_are_fatal() -> None:
    config = make_config(age={"dtype": "float32"}, town={"dtype": "string"})
    now = statistics(age=numeric(20, 60), job=categorical(cook=9), town=categorical(york=1))
    in_force = infer_schema(make_config(), FIRST, None)
    schema = infer_schema(config, now, in_force)
    found = find_anomalies(Comparison(config.validate_, Scan(now, {}, {}), schema, in_force, {}))
    fatal = {f"{anomaly.kind} {anomaly.feature}": anomaly.is_fatal for anomaly in found}
    assert fatal == {"type age": True, "new_column town": False}
    with pytest.raises(
        DataError, match=r"1 anomalies that validate\.fail_on names \(type\), 1 other"
    ):
        refuse(found)
    refuse(())
