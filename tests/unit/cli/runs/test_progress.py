"""One line of what a step says: whole parts, and no more than fits."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.runs.progress import MOST_CHARACTERS, number, shortened, summary_of
from contract.layout import RunLayout
from contract.loader import freeze_pipeline
from contract.pipelines import find_pipeline
from contract.records.evaluation import BlessRecord, Metric
from contract.records.record import Result


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10860.0, "10,860"),
        (10860.4, "10,860"),
        (2169.0, "2,169"),
        (3.0, "3"),
        (0.0, "0"),
        (0.91234, "0.9123"),
        (-1234.5, "-1,234"),
        (0.00001234, "1.234e-05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_one_form(value: float, words: str) -> None:
    assert number(value) == words


def test_parts_that_fit_are_all_there() -> None:
    assert shortened(["one", "two 2"]) == "one; two 2"
    assert shortened([]) == ""


def test_a_part_that_does_not_fit_is_left_out_whole_and_marked() -> None:
    first = "a" * (MOST_CHARACTERS - 10)
    assert shortened([first, "0.0466 and more"]) == f"{first}; …"


def test_a_first_part_that_is_too_long_alone_is_cut_between_words() -> None:
    said = shortened(["word " * 100])
    assert said.endswith("word …")
    assert len(said) <= MOST_CHARACTERS + 2


def test_the_comparison_with_the_version_in_service_comes_first(tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "digits", "r1")
    freeze_pipeline(find_pipeline("digits"), run, {"bless.metric": "accuracy"})
    threshold = "accuracy 0.95 (0.92 to 0.97) on the test split, required ≥ 0.9: met"
    record = BlessRecord(
        is_blessed=True,
        candidate="candidate",
        step=100,
        champion_version=1,
        metrics={"digit": {"accuracy": Metric(value=0.95, low=0.92, high=0.97)}},
        champion_metrics={"digit": {"accuracy": Metric(value=0.9375, low=0.9, high=0.96)}},
        reasons=(threshold, "accuracy is 0.0125 better than version 1's " + 200 * "."),
    )
    Result(
        step="bless",
        pipeline="digits",
        run_id="r1",
        attempt=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
        inputs={},
        reasons=record.reasons,
        detail=record.model_dump(mode="json"),
    ).write(run.result("bless"))
    assert summary_of(run, "bless") == f"accuracy 0.95, version 1 has 0.9375; {threshold}; …"
