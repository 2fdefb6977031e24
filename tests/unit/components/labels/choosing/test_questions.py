"""From a log on disk to rows to ask about, and their file."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.labels.choosing.candidates import Period
from components.labels.choosing.choice import Budget, Variety
from components.labels.choosing.questions import (
    Question,
    Wish,
    as_csv,
    choose_questions,
    head_to_ask,
)
from contract.errors import DataError, UserError
from contract.layout import PipelineLayout
from contract.loader import validate
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, files_of_hour, hour_of
from contract.prediction_log.writing import merge, write_rows
from contract.records.package import InputSpec
from contract.schema.labels import Measure
from contract.schema.pipeline import PipelineConfig

NOW = datetime(2026, 11, 29, 15, 20, tzinfo=UTC)
RAW: dict[str, Any] = {
    "name": "people",
    "features": {"age": {"dtype": "int64"}, "job": {"dtype": "string"}},
    "heads": {"income": {"task": "binary_classification", "classes": ["low", "high"]}},
    "ingest": {"source": {"kind": "csv", "files": ["people.csv"]}},
}
ALL = Period()
CONFIG = validate(PipelineConfig, RAW, "people")


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path, "people")


def row(request_id: str, high: float, **changes: Any) -> dict[str, Any]:
    """Return a logged row; `high` is the score of the second class."""
    fixed = {"time": NOW, "request_id": request_id, "row": 0, "version": 1, "arm": "stable"}
    fixed |= {"signature": "predict", "status": 200, "latency_seconds": 0.001}
    said = {"predicted:income": int(high > 0.5), "confidence:income": max(high, 1 - high)}
    inputs = {"input:age": len(request_id), "input:job": request_id.encode()}
    return {**fixed, **said, **inputs, "scores:income": [1 - high, high], **changes}


def log(layout: PipelineLayout, *rows: dict[str, Any], version: int = 1, first: int = 0) -> None:
    specs = {name: InputSpec.of(feature) for name, feature in CONFIG.features.items()}
    table = pa.Table.from_pylist([*rows], log_schema(CONFIG.heads, specs))
    end = first + len(rows)
    write_rows(LogFile(hour_of(NOW), "h-1-a", first, end, layout.predictions(version)), table)


def ask(
    layout: PipelineLayout, by: Measure = "margin", budget: int = 2, period: Period = ALL
) -> list[Question]:
    wish = Wish("income", by, Budget(budget, audit_ratio=0.001), Variety(0), period)
    return choose_questions(layout, CONFIG, wish, np.random.default_rng(0))


def test_unsure_rows_are_asked_about_with_the_best_guess_first(layout: PipelineLayout) -> None:
    log(layout, row("sure", 1.0), row("unsure", 0.375), row("surer", 0.0), row("even", 0.5))
    found = {one.request_id: one for one in ask(layout)}
    assert found.keys() == {"unsure", "even"}
    assert found["unsure"].guesses == (("low", 0.625), ("high", 0.375))
    assert found["unsure"].worth == pytest.approx(0.75)


def test_rows_that_nobody_was_answered_with_are_not_asked_about(layout: PipelineLayout) -> None:
    unseen = [row("shadow", 0.5, arm="shadow"), row("named", 0.5, arm=""), row("", 0.5)]
    no_inputs = row("unsampled", 0.5, **{"input:age": None, "input:job": None})
    broken = row("broken", 0.5, **{"scores:income": [float("nan"), 0.5]})
    refused = row("refused", 0.5, status=400, **{"scores:income": None})
    log(layout, *unseen, no_inputs, broken, refused, row("answered", 0.5), row("answered", 0.4))
    assert [one.request_id for one in ask(layout, budget=9)] == ["answered"]


def test_disagreement_is_with_a_shadow_of_the_same_request(layout: PipelineLayout) -> None:
    log(layout, row("a", 0.5), row("b", 0.5), row("c", 0.5))
    shadow = {"arm": "shadow", "version": 2}
    log(layout, row("b", 0.5, **shadow), row("c", 0.9, **shadow), version=2)
    found = ask(layout, "disagreement", 1)
    assert [(one.request_id, round(one.worth, 4)) for one in found] == [("c", 0.4)]


def test_disagreement_without_a_shadow_is_refused(layout: PipelineLayout) -> None:
    log(layout, row("a", 0.5))
    with pytest.raises(DataError, match="no shadow has answered any of 1 rows"):
        ask(layout, "disagreement")


def test_merged_files_change_no_choice(layout: PipelineLayout) -> None:
    chance = np.random.default_rng(1)
    high, ages = chance.random(400), chance.normal(40, 15, 400)
    ages[:100] = np.arange(100) % 3  # the first file has other numbers than the rest
    rows = [row(f"r{n}", high[n], **{"input:age": int(age)}) for n, age in enumerate(ages)]
    log(layout, *rows[:100])
    log(layout, *rows[100:], first=100)
    wish = Wish("income", "margin", Budget(40))
    before = choose_questions(layout, CONFIG, wish, np.random.default_rng(0))
    assert len(merge(files_of_hour(layout.predictions(1), hour_of(NOW)))) == 1
    assert choose_questions(layout, CONFIG, wish, np.random.default_rng(0)) == before


def test_rows_that_are_nearly_the_same_as_those_asked_before_are_not_asked(
    layout: PipelineLayout,
) -> None:
    ages = {"input:age": 30, "input:job": b"cook"}
    log(layout, row("same", 0.5, **ages), row("other", 0.4, **{**ages, "input:age": 31}))
    log(layout, row("same-again", 0.5, **ages), first=2)
    before: list[dict[str, Any]] = [
        {"age": 30, "job": "cook"},
        {"age": [31], "job": "cook"},  # as an older config had it
        {"age": "31", "job": "cook"},
        {"job": "cook"},
    ]
    wish = Wish("income", "margin", Budget(9, audit_ratio=0.001), asked=before)
    found = choose_questions(layout, CONFIG, wish, np.random.default_rng(0))
    assert [one.request_id for one in found if not one.is_audit] == ["other"]


def test_novel_rows_are_far_from_the_usual_ones(layout: PipelineLayout) -> None:
    usual = [row(f"r{n}", 0.5, **{"input:age": 30, "input:job": b"cook"}) for n in range(2_000)]
    log(layout, *usual, row("odd", 1.0, **{"input:age": 900, "input:job": b"cook"}))
    (found,) = ask(layout, "novelty", 1)
    assert (found.request_id, found.worth) == ("odd", 1)


def test_a_log_without_inputs_or_rows_says_what_to_set(layout: PipelineLayout) -> None:
    with pytest.raises(DataError, match="no answered rows in the given time; send requests"):
        ask(layout)
    log(layout, row("a", 0.5, **{"input:age": None, "input:job": None}))
    with pytest.raises(DataError, match="1 answered rows, none with its inputs; set serve"):
        ask(layout)
    with pytest.raises(DataError, match="no answered rows in the given time"):
        ask(layout, period=Period(since=NOW.replace(day=30)))


def test_versions_with_other_classes_are_refused(layout: PipelineLayout) -> None:
    log(layout, row("a", 0.5, **{"scores:income": [0.2, 0.3, 0.5]}))
    with pytest.raises(DataError, match="another number of classes than the config \\(2\\)"):
        ask(layout)


@pytest.mark.parametrize("by", ["margin", "disagreement"])
def test_of_several_versions_those_with_other_classes_are_left_out(
    layout: PipelineLayout, by: Measure, caplog: pytest.LogCaptureFixture
) -> None:
    others = {"scores:income": [0.2, 0.3, 0.5]}
    log(layout, row("a", 0.5, **others), row("b", 0.5, **others))
    log(layout, row("c", 0.5, version=2), version=2)
    log(layout, row("c", 0.9, version=3, arm="shadow"), version=3)
    log(layout, row("c", 0.5, version=4, arm="shadow", **others), version=4)
    assert [one.request_id for one in ask(layout, by, 9)] == ["c"]
    assert "2 rows are left out: head 'income': the prediction log has another" in caplog.text


def test_the_file_has_an_empty_column_for_the_label(layout: PipelineLayout) -> None:
    log(layout, row("even, or so", 0.5))
    (line,) = csv.DictReader(io.StringIO(as_csv(ask(layout), "income")))
    assert (line["request_id"], line["row"], line["income"]) == ("even, or so", "0", "")
    assert float(line["probability"]) == 1


def test_the_head_is_the_named_one_or_the_only_one() -> None:
    assert head_to_ask(CONFIG) == "income"
    number = {"task": "regression"}
    two = validate(PipelineConfig, {**RAW, "heads": {**RAW["heads"], "age2": number}}, "people")
    assert head_to_ask(two) == "income"
    with pytest.raises(UserError, match="found 'incom'; did you mean 'income'"):
        head_to_ask(two, "incom")
    none = validate(PipelineConfig, {**RAW, "heads": {"age2": number}}, "people")
    with pytest.raises(UserError, match="there is none.*name one of them"):
        head_to_ask(none)
