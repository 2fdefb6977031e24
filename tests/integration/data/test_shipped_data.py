"""The shipped pipelines over their real data: ingested, validated and transformed whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.raw_examples import read_raw
from components.step import run_step
from contract.command import StepCommand
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.data import IngestRecord, TransformRecord, ValidateRecord
from contract.records.record import Result

from .conftest import WORKS


def run_data_steps(pipeline: str, root: Path, overrides: dict[str, Any]) -> RunLayout:
    for step, work in WORKS.items():
        run_step(StepCommand(step, pipeline, "r1", str(root), overrides), work)
    return RunLayout(root, pipeline, "r1")


def check(run: RunLayout, examples: int, test_examples: int | None) -> None:
    ingested = Result.read(run.result("ingest")).detail_as(IngestRecord)
    assert sum(ingested.examples.values()) == examples
    assert test_examples is None or ingested.examples["test"] == test_examples
    assert ingested.bad_rows == 0
    assert Result.read(run.result("validate")).detail_as(ValidateRecord).anomalies == ()
    transformed = Result.read(run.result("transform")).detail_as(TransformRecord)
    assert transformed.examples == ingested.examples


def test_digits(tmp_path: Path) -> None:
    check(run_data_steps("digits", tmp_path, {}), 1797, None)


def test_census(tmp_path: Path, shared_data: Path) -> None:
    run = run_data_steps(
        "census",
        tmp_path,
        {
            "ingest.source.files": [str(shared_data / "census" / "adult.train.csv")],
            "ingest.test_source.files": [str(shared_data / "census" / "adult.test.csv")],
        },
    )
    check(run, 32_561 + 16_281, 16_281)
    shards = Result.read(run.result("ingest")).detail["shards"]["test"]
    columns = read_raw([run.step("ingest") / name for name in shards], load_frozen(run))
    # Counted with grep: '>50K.' in 3,846 lines, '?' as workclass in 963 of the test file.
    assert int(columns.labels["income"].sum()) == 3_846
    assert int(np.sum(columns.features["workclass"] == b"unknown")) == 963


@pytest.mark.timeout(600)
def test_mnist(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "mnist"
    run = run_data_steps(
        "mnist",
        tmp_path,
        {
            "ingest.source.images": str(folder / "train-images-idx3-ubyte.gz"),
            "ingest.source.labels": str(folder / "train-labels-idx1-ubyte.gz"),
            "ingest.test_source.images": str(folder / "t10k-images-idx3-ubyte.gz"),
            "ingest.test_source.labels": str(folder / "t10k-labels-idx1-ubyte.gz"),
        },
    )
    check(run, 70_000, 10_000)
