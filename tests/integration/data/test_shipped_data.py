"""The shipped pipelines over the first rows of their real data, as far as transform."""

import gzip
import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np

from components.data.raw_examples import read_raw
from components.runs.step import run_step
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


def first_lines(source: Path, count: int, folder: Path) -> list[str]:
    """Copy the first lines of a file into `folder`, and return them."""
    with source.open() as file:
        lines = list(itertools.islice(file, count))
    (folder / source.name).write_text("".join(lines))
    return lines


def first_items(source: Path, count: int, folder: Path) -> str:
    """Copy the first items of a compressed IDX file; return where to.

    IDX: two zero bytes, the type (8: unsigned bytes), the number of dimensions, their big-endian
    32-bit sizes, the values.
    """
    content = gzip.decompress(source.read_bytes())
    sizes = struct.unpack_from(f">{content[3]}I", content, 4)
    begin = 4 + 4 * len(sizes)
    item = (len(content) - begin) // sizes[0]
    values = content[begin : begin + count * item]
    target = folder / source.name
    target.write_bytes(
        gzip.compress(content[:4] + struct.pack(f">{len(sizes)}I", count, *sizes[1:]) + values)
    )
    return str(target)


def test_census(tmp_path: Path, shared_data: Path) -> None:
    first_lines(shared_data / "census" / "adult.train.csv", 4000, tmp_path)
    lines = first_lines(shared_data / "census" / "adult.test.csv", 2000, tmp_path)
    run = run_data_steps(
        "census",
        tmp_path,
        {
            "ingest.source.files": [str(tmp_path / "adult.train.csv")],
            "ingest.test_source.files": [str(tmp_path / "adult.test.csv")],
        },
    )
    check(run, 6000, 2000)
    shards = Result.read(run.result("ingest")).detail["shards"]["test"]
    columns = read_raw([run.step("ingest") / name for name in shards], load_frozen(run))
    assert int(columns.labels["income"].sum()) == sum(">50K." in line for line in lines)
    unknown = sum(line.split(",")[1] == " ?" for line in lines)
    assert int(np.sum(columns.features["workclass"] == b"unknown")) == unknown


def test_mnist(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "mnist"
    run = run_data_steps(
        "mnist",
        tmp_path,
        {
            f"ingest.{part}.{kind}s": first_items(
                folder / f"{name}-{kind}s-{form}-ubyte.gz", count, tmp_path
            )
            for part, name, count in (("source", "train", 3000), ("test_source", "t10k", 500))
            for kind, form in (("image", "idx3"), ("label", "idx1"))
        },
    )
    check(run, 3500, 500)
