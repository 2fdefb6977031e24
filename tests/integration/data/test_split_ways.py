"""The same rows in the same splits, whatever file, worker or shard they come through."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.raw_examples import read_raw
from components.ingest.ingest import ingest
from contract.errors import DataError
from contract.loader import validate
from contract.records.data import IngestRecord
from contract.schema.data import SPLITS
from contract.schema.pipeline import PipelineConfig

ROOT = Path(__file__).resolve().parents[3]
WAYS: dict[str, dict[str, Any]] = {
    "hash": {"group": "user"},
    "column": {"by": "column", "column": "part", "group": "user"},
    "time": {"by": "time", "column": "at", "last": 0.3, "group": "user"},
}
Splits = dict[str, list[tuple[int, bytes]]]


def rows_of(count: int = 600) -> list[dict[str, Any]]:
    """Return rows of which each third has the time of the one before."""
    start = datetime(2024, 1, 1)
    return [
        {
            "x": number * 7919 % count,
            "user": f"user{number * 31 % 97}",
            "part": ("train", "train", "eval", "test")[number % 4],
            "at": (start + timedelta(hours=number - (number % 3 == 2))).isoformat(),
            "y": number / 8,
        }
        for number in range(count)
    ]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("".join(f"{line}\n" for line in lines))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows)
    at = table["at"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    pq.write_table(table.set_column(table.schema.get_field_index("at"), "at", at), path)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def config_of(
    folder: Path, split: dict[str, Any], kind: str = "csv", **more: Any
) -> PipelineConfig:
    source = {"kind": kind, "files": [str(folder / f"*.{kind}")]}
    raw = {
        "name": "people",
        "features": {"x": {"dtype": "int64"}},
        "heads": {"y": {"task": "regression"}},
        "ingest": {"source": source, "split": split, **more},
    }
    return validate(PipelineConfig, raw, "people")


def ingested(config: PipelineConfig, output: Path) -> tuple[IngestRecord, Splits]:
    output.mkdir()
    record = ingest(config, [], output, output / "failed")
    splits = {}
    for split, names in record.shards.items():
        found = read_raw([output / name for name in names], config)
        pairs = zip(found.features["x"].tolist(), found.ids.tolist(), strict=True)
        splits[split] = sorted(pairs)
    return record, splits


@pytest.mark.parametrize("way", WAYS)
def test_every_source_worker_and_shard_size_gives_the_same_splits(way: str, tmp_path: Path) -> None:
    rows = rows_of()
    for kind, write in WRITERS.items():
        for part in range(3):
            write(tmp_path / f"{part}.{kind}", rows[part::3])
    first, expected = ingested(config_of(tmp_path, WAYS[way]), tmp_path / "first")
    assert sum(first.examples.values()) == 600
    changes: list[dict[str, Any]] = [
        {"kind": "jsonl"},
        {"kind": "parquet"},
        {"shard_size_mb": 0.001},
        {"shard_size_mb": 0.001, "beam": {"options": ["--direct_num_workers=1"]}},
    ]
    for number, change in enumerate(changes):
        config = config_of(tmp_path, WAYS[way], **change)
        record, splits = ingested(config, tmp_path / str(number))
        assert splits == expected
        assert (record.groups, record.parted_groups) == (first.groups, first.parted_groups)
        assert not [*(tmp_path / str(number)).rglob("*.npy")]


def test_rows_of_a_group_are_in_one_split_or_counted(tmp_path: Path) -> None:
    rows = rows_of()
    write_csv(tmp_path / "rows.csv", rows)
    users = {row["x"]: row["user"] for row in rows}

    def sides(splits: Splits) -> dict[str, set[str]]:
        return {split: {users[x] for x, _ in found} for split, found in splits.items()}

    record, splits = ingested(config_of(tmp_path, WAYS["hash"]), tmp_path / "hash")
    by_hash = sides(splits)
    assert not by_hash["train"] & by_hash["eval"] | by_hash["eval"] & by_hash["test"]
    assert (record.groups, record.parted_groups) == (0, 0)
    record, splits = ingested(config_of(tmp_path, WAYS["time"]), tmp_path / "time")
    by_time = sides(splits).values()
    parted = sum(sum(user in side for side in by_time) > 1 for user in set(users.values()))
    assert (record.groups, record.parted_groups) == (97, parted)
    assert parted > 0


def test_no_future_is_trained_on(tmp_path: Path) -> None:
    rows = rows_of()
    write_csv(tmp_path / "rows.csv", rows)
    record, splits = ingested(config_of(tmp_path, WAYS["time"]), tmp_path / "out")
    times = {row["x"]: row["at"] for row in rows}
    of_split = {split: [times[x] for x, _ in found] for split, found in splits.items()}
    assert max(of_split["train"]) < min(of_split["eval"])
    assert max(of_split["eval"]) < min(of_split["test"])
    assert record.examples["train"] == pytest.approx(420, abs=1)
    assert [cut[:19] for cut in record.cuts] == [min(of_split["eval"]), min(of_split["test"])]


def test_cut_points_are_the_first_times_of_their_splits(tmp_path: Path) -> None:
    rows = rows_of(120)
    write_csv(tmp_path / "rows.csv", rows)
    split = {
        "by": "time",
        "column": "at",
        "eval_from": "2024-01-03",
        "test_from": "2024-01-04T01:00+01:00",
    }
    record, splits = ingested(config_of(tmp_path, split), tmp_path / "out")
    times = {row["x"]: row["at"] for row in rows}
    assert min(times[x] for x, _ in splits["eval"]) == "2024-01-03T00:00:00"
    assert min(times[x] for x, _ in splits["test"]) == "2024-01-04T00:00:00"
    assert record.examples["train"] == sum(row["at"] < "2024-01-03" for row in rows)


def test_rows_of_a_test_source_need_no_split(tmp_path: Path) -> None:
    rows = rows_of(90)
    write_csv(tmp_path / "rows.csv", rows)
    write_csv(tmp_path / "test.txt", [{"x": 1, "y": 2}, {"x": 3, "y": 4}])
    test = {"kind": "csv", "files": [str(tmp_path / "test.txt")]}
    config = config_of(tmp_path, WAYS["time"], test_source=test)
    record, splits = ingested(config, tmp_path / "out")
    assert [x for x, _ in splits["test"]] == [1, 3]
    assert len(record.cuts) == 1
    assert record.examples["train"] == pytest.approx(63, abs=1)


def test_bad_splits_are_counted_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    rows = rows_of(100)
    write_csv(
        tmp_path / "rows.csv", [{**row, "part": "dev"} if row["x"] == 1 else row for row in rows]
    )
    record, _ = ingested(config_of(tmp_path, WAYS["column"]), tmp_path / "out")
    assert record.bad_row_reasons == {"split 'part': not one of 'train', 'eval', 'test'": 1}
    assert sum(record.examples.values()) == 99
    late = {"by": "time", "column": "at", "eval_from": "2030-01-01", "test_from": "2031-01-01"}
    with pytest.raises(DataError, match=r"split 'eval' is empty.*ingest\.split\.eval_from"):
        ingested(config_of(tmp_path, late), tmp_path / "late")


SCRIPT = """
import os, sys
from pathlib import Path
from components.ingest.ingest import ingest
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

config = validate(PipelineConfig, __import__("json").loads(sys.argv[1]), "people")
ingest(config, [], Path(sys.argv[2]), Path(sys.argv[2]) / "failed")
"""


def test_a_killed_ingestion_starts_again_to_the_same_splits(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", rows_of(60_000))
    config = config_of(tmp_path, WAYS["time"], shard_size_mb=0.05)
    killed = tmp_path / "killed"
    killed.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, config.model_dump_json(), str(killed)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while not [*killed.glob("examples/unit-*")] and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first, expected = ingested(config, tmp_path / "first")
    again, splits = ingested(config, tmp_path / "again")
    assert (again, splits) == (first, expected)
    assert sum(first.examples.values()) == 60_000
    assert all(first.examples[split] for split in SPLITS)
