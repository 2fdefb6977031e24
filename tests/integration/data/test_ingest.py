"""Ingestion of every kind of source, and of everything that should be refused."""

import bz2
import gzip
import json
import lzma
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.raw_examples import RawColumns, encode_rows, read_raw, read_serialized, to_rows
from components.labels.labelled_files import LabelFile
from components.labels.labels import add_labels
from contract.errors import ConfigError, DataError
from contract.records.data import IngestRecord
from contract.records.evaluation import BlessRecord
from contract.records.record import Result
from contract.schema.data import SPLITS

from .conftest import COLUMNS, Workshop, as_csv, people

Edit = Callable[[str, Any], None]


def read_split(shop: Workshop, split: str, run_id: str = "r1") -> RawColumns:
    return read_raw(shop.shards("ingest", split, run_id), shop.frozen(run_id))


def ids(shop: Workshop, run_id: str = "r1") -> dict[str, set[bytes]]:
    return {split: set(read_split(shop, split, run_id).ids.tolist()) for split in SPLITS}


def test_every_csv_row_ends_up_in_one_split_as_it_was(workshop: Workshop) -> None:
    record = workshop.run("ingest").detail_as(IngestRecord)
    assert sum(record.examples.values()) == 300
    assert record.columns == COLUMNS
    found = set()
    for split in SPLITS:
        columns = read_split(workshop, split)
        labels = np.array(["<=50K", ">50K"])[columns.labels["income"]]
        for row, label in zip(to_rows(columns), labels.tolist(), strict=True):
            found.add((str(row["age"]), row["job"], " ".join(row["words"]), label))
    expected = {
        (age, job, " ".join(words.split()), label) for age, job, words, label in people(300)
    }
    assert found == expected


def test_missing_values_are_absent_and_filled_when_read(workshop: Workshop) -> None:
    rows = [
        (age, "?" if n % 2 else job, "", label)
        for n, (age, job, _, label) in enumerate(people(300))
    ]
    workshop.files["people.csv"] = as_csv(rows)
    workshop.run("ingest")
    columns = read_split(workshop, "train")
    assert b"none" in columns.features["job"].tolist()
    assert all(len(words) == 0 for words in columns.features["words"])


def test_the_same_rows_give_the_same_bytes_and_splits_in_every_run(workshop: Workshop) -> None:
    first = workshop.run("ingest", run_id="a")
    second = workshop.run("ingest", run_id="b")
    assert first.artifacts["examples"].digest == second.artifacts["examples"].digest


def test_beams_workers_write_what_this_process_writes(workshop: Workshop, edit: Edit) -> None:
    workshop.files["people.csv"] += b"x,cook,,<=50K\n"
    here = workshop.run("ingest", run_id="here")
    edit("ingest.beam", {"options": ["--direct_num_workers=1"]})
    in_beam = workshop.run("ingest", run_id="beam")
    assert here.detail["bad_rows"] == 1
    assert in_beam.detail == here.detail
    assert in_beam.artifacts["examples"].digest == here.artifacts["examples"].digest


def test_new_rows_do_not_move_old_ones(workshop: Workshop) -> None:
    workshop.run("ingest", run_id="before")
    workshop.files["people.csv"] = as_csv(people(300)[::-1] + people(100, seed=9))
    workshop.run("ingest", run_id="after")
    before, after = ids(workshop, "before"), ids(workshop, "after")
    assert all(before[split] <= after[split] for split in SPLITS)


def test_rows_of_one_key_stay_together(workshop: Workshop, edit: Edit) -> None:
    rows = [(*row, f"person{number % 40}") for number, row in enumerate(people(300))]
    workshop.files["people.csv"] = as_csv(rows, (*COLUMNS, "who"))
    edit("ingest.split.key", "who")
    workshop.run("ingest")
    found = ids(workshop)
    assert sum(len(of_split) for of_split in found.values()) == 40
    assert not found["train"] & found["test"]


def test_a_test_file_is_the_whole_test_split(workshop: Workshop, edit: Edit) -> None:
    edit("ingest.test_source", {"kind": "csv", "files": ["test.csv"], "columns": list(COLUMNS)})
    edit("ingest.split", {"train": 0.6, "eval": 0.2, "test": 0.2})
    dotted = [(age, job, words, f"{label}.") for age, job, words, label in people(50, seed=5)]
    workshop.files["test.csv"] = as_csv(dotted, header=None)
    record = workshop.run("ingest").detail_as(IngestRecord)
    assert record.examples["test"] == 50
    assert record.examples["train"] + record.examples["eval"] == 300
    assert record.examples["eval"] == pytest.approx(75, abs=25)


def test_shards_have_about_the_size_asked_for(workshop: Workshop, edit: Edit) -> None:
    rows = people(20_000)
    workshop.files["people.csv"] = as_csv(rows)
    edit("ingest.shard_size_mb", 0.25)
    record = workshop.run("ingest").detail_as(IngestRecord)
    assert len(record.shards["train"]) == 3  # 20,000 rows come in three batches
    assert record.shards["train"][0].endswith(
        f"train-00000-of-{len(record.shards['train']):05d}.tfrecord.gz"
    )
    sizes = [
        sum(len(e) for batch in read_serialized([shard]) for e in batch)
        for shard in workshop.shards("ingest", "train")
    ]
    assert all(size >= 0.25 * 2**20 for size in sizes[:-1])
    assert sum(record.examples.values()) == 20_000


def test_several_files_by_glob_and_gzip_are_read(workshop: Workshop, edit: Edit) -> None:
    rows = people(300)
    workshop.files = {
        "part-1.csv": as_csv(rows[:100]),
        "part-2.csv": gzip.compress(as_csv(rows[100:])),
    }
    edit("ingest.source.files", ["part-*.csv"])
    assert sum(workshop.run("ingest").detail_as(IngestRecord).examples.values()) == 300


def test_parquet_gives_the_same_examples_as_csv(workshop: Workshop, edit: Edit) -> None:
    workshop.run("ingest", run_id="csv")
    columns = list(zip(*people(300), strict=True))
    table = pa.table(
        {
            "age": pa.array([int(age) for age in columns[0]], pa.int32()),
            "job": pa.array(columns[1]).dictionary_encode(),
            "words": pa.array([words.split() for words in columns[2]]),
            "income": pa.array(columns[3]),
        }
    )
    workshop.write()
    pq.write_table(table, workshop.folder / "people.parquet", row_group_size=70)
    edit("ingest.source", {"kind": "parquet", "files": ["people.parquet"]})
    workshop.run("ingest", run_id="parquet")
    assert ids(workshop, "csv") == ids(workshop, "parquet")


def test_parquet_of_every_writer_gives_the_same_examples(workshop: Workshop, edit: Edit) -> None:
    """Views as polars writes them, categories, decimals; the job is the folder's, as in Hive."""
    workshop.run("ingest", run_id="csv")
    workshop.write()
    for job in ("cook", "smith", "clerk"):
        ages, _, words, incomes = zip(*[r for r in people(300) if r[1] == job], strict=True)
        table = pa.table(
            {
                "age": pa.array([Decimal(age) for age in ages], pa.decimal128(12, 3)),
                "words": pa.array([w.split() for w in words], pa.large_list(pa.string_view())),
                "income": pa.array(incomes, pa.large_string()).dictionary_encode(),
                "seen": pa.array([{"at": 1}] * len(ages)),
            }
        )
        folder = workshop.folder / f"job={job}"
        folder.mkdir()
        pq.write_table(table, folder / "part.parquet")
    edit("ingest.source", {"kind": "parquet", "files": ["*/part.parquet"]})
    workshop.run("ingest", run_id="parquet")
    assert ids(workshop, "csv") == ids(workshop, "parquet")


def test_csv_in_another_encoding_and_packing_gives_the_same_examples(
    workshop: Workshop, edit: Edit
) -> None:
    rows = [(age, f"{job} é", words, label) for age, job, words, label in people(300)]
    workshop.files["people.csv"] = as_csv(rows)
    workshop.run("ingest", run_id="utf8")
    text = as_csv(rows).decode()
    workshop.files["people.csv"] = bz2.compress(text.encode("utf-16"))
    workshop.run("ingest", run_id="utf16")
    workshop.files["people.csv"] = lzma.compress(text.encode("cp1252"))
    edit("ingest.source.encoding", "cp1252")
    workshop.run("ingest", run_id="cp1252")
    assert ids(workshop, "utf8") == ids(workshop, "utf16") == ids(workshop, "cp1252")


def idx(values: np.ndarray) -> bytes:
    return (
        struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    )


@pytest.fixture
def images(workshop: Workshop) -> Workshop:
    """The workshop with IDX images; labels are 0, 1, 2."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (200, 4, 4), dtype=np.uint8)
    workshop.files = {
        "images.gz": gzip.compress(idx(pixels)),
        "labels": idx((np.arange(200) % 3).astype(np.uint8)),
    }
    workshop.config |= {
        "features": {"image": {"dtype": "float32", "shape": [4, 4], "maximum": 255}},
        "heads": {
            "digit": {
                "task": "multiclass_classification",
                "column": "label",
                "classes": ["0", "1", "2"],
            }
        },
        "ingest": {
            "source": {"kind": "idx", "images": "images.gz", "labels": "labels"},
            "split": {"train": 0.6, "eval": 0.2, "test": 0.2},
        },
        "evaluate": {},
    }
    return workshop


def test_idx_images_keep_their_pixels_and_labels(images: Workshop) -> None:
    images.run("ingest")
    pixels = np.frombuffer(gzip.decompress(images.files["images.gz"])[16:], np.uint8)
    by_image = {image.tobytes(): n % 3 for n, image in enumerate(pixels.reshape(200, 4, 4))}
    columns = read_split(images, "train")
    assert columns.features["image"].shape == (len(columns), 4, 4)
    found = [by_image[image.astype(np.uint8).tobytes()] for image in columns.features["image"]]
    assert columns.labels["digit"].tolist() == found


@pytest.mark.parametrize("dataset", ["digits", "iris"])
def test_scikit_learns_data_sets_are_read(workshop: Workshop, dataset: str) -> None:
    features: dict[str, Any] = {"image": {"dtype": "float32", "shape": [8, 8]}}
    classes = [str(n) for n in range(10)]
    if dataset == "iris":
        features = {"petal_length_cm": {"dtype": "float32"}}
        classes = ["setosa", "versicolor", "virginica"]
    workshop.config |= {
        "features": features,
        "heads": {
            "kind": {
                "task": "multiclass_classification",
                "column": "label",
                "classes": classes,
            }
        },
        "ingest": {"source": {"kind": "sklearn", "dataset": dataset}},
        "evaluate": {},
    }
    record = workshop.run("ingest").detail_as(IngestRecord)
    assert sum(record.examples.values()) == {"digits": 1797, "iris": 150}[dataset]


# --- deltas -------------------------------------------------------------------------------------


def test_label_deltas_are_read_in_addition_but_never_into_a_test_file(
    workshop: Workshop, edit: Edit, tmp_path: Path
) -> None:
    edit("ingest.test_source", {"kind": "csv", "files": ["test.csv"]})
    workshop.files["test.csv"] = as_csv(people(30, seed=5))
    workshop.run("ingest", run_id="before")
    new = tmp_path / "new.csv"
    new.write_bytes(as_csv([("55", "pilot", f"fresh{n}", ">50K") for n in range(20)]))
    added = add_labels(
        workshop.layout().of_pipeline,
        workshop.frozen("before"),
        LabelFile(new),
        "ada",
        datetime.now(UTC),
    )
    record = workshop.run("ingest", run_id="after").detail_as(IngestRecord)
    assert added.delta
    assert record.label_deltas == (added.delta,)
    assert record.examples["test"] == 30
    assert record.examples["train"] + record.examples["eval"] == 320
    jobs = read_split(workshop, "train", "after").features["job"].tolist()
    assert b"pilot" in jobs


def test_the_newest_label_of_a_row_replaces_those_before_it(
    workshop: Workshop, tmp_path: Path
) -> None:
    (age, job, words, _), *_ = rows = people(300)
    workshop.run("ingest", run_id="before")
    new = tmp_path / "new.csv"
    for label in ("<=50K", ">50K"):
        new.write_bytes(as_csv([(age, job, words, label), ("55", "pilot", "fresh", label)]))
        add_labels(
            workshop.layout().of_pipeline,
            workshop.frozen("before"),
            LabelFile(new),
            "ada",
            datetime.now(UTC),
        )
    record = workshop.run("ingest", run_id="after").detail_as(IngestRecord)
    assert sum(record.examples.values()) == len(rows) + 1
    assert record.replaced_rows == 3  # one of the source, two of the first delta
    parts = [read_split(workshop, split, "after") for split in SPLITS]
    labels = [
        label
        for part in parts
        for row, label in zip(to_rows(part), part.labels["income"].tolist(), strict=True)
        if row["words"] in (words.split(), ["fresh"])
    ]
    assert labels == [1, 1]


def test_a_run_begins_with_the_removal_of_old_ones(workshop: Workshop, edit: Edit) -> None:
    edit("retention.runs", 1)
    workshop.run("ingest", run_id="refused")
    layout = workshop.layout("refused")
    refusal = BlessRecord(is_blessed=False, candidate="", step=1, champion_version=None, reasons=())
    ingested = Result.read(layout.result("ingest"))
    detail = refusal.model_dump(mode="json")
    ingested.model_copy(update={"step": "bless", "detail": detail}).write(layout.result("bless"))
    workshop.run("ingest", run_id="next")
    assert not layout.path.exists()


# --- refusals -----------------------------------------------------------------------------------


def test_a_few_bad_rows_go_to_the_dead_letter_file(workshop: Workshop) -> None:
    rows = [*people(300), ("old", "cook", "w", "<=50K"), ("150", "cook", "w", "<=50K")]
    workshop.files["people.csv"] = as_csv(rows) + b"1,2\n"
    record = workshop.run("ingest").detail_as(IngestRecord)
    assert record.bad_rows == 3
    lines = (workshop.layout().step("ingest") / record.dead_letter).read_text().splitlines()
    entries = {entry["row"]: entry for entry in map(json.loads, lines)}
    assert entries[302]["reason"] == "age: not an int64"
    assert entries[302]["content"]["age"] == "old"
    assert entries[303]["reason"] == "age: above the maximum 120"
    assert entries[304]["content"] == ["1", "2"]


def test_too_many_bad_rows_fail_and_leave_their_file(workshop: Workshop) -> None:
    rows = [
        (age, job, words, "rich" if n < 60 else label)
        for n, (age, job, words, label) in enumerate(people(300))
    ]
    workshop.files["people.csv"] = as_csv(rows)
    with pytest.raises(DataError, match=r"60 of 300 rows are bad \(20\.0%\)") as caught:
        workshop.run("ingest")
    assert "60 × label 'income': not one of '<=50K', '>50K' (as in people.csv:2 has 'rich')" in str(
        caught.value
    )
    assert len(workshop.layout().dead_letter.read_text().splitlines()) == 60
    assert not workshop.layout().step("ingest").exists()


def test_changed_columns_are_refused_before_any_work(workshop: Workshop) -> None:
    workshop.files["people.csv"] = as_csv(people(300), ("Age", "job", "words", "income"))
    with pytest.raises(DataError, match=r"missing columns: 'age'; did you mean 'Age'\?"):
        workshop.run("ingest")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"age,job,words,income\n", "no rows"),
        (as_csv(people(300))[:-8], "truncated"),
        (gzip.compress(as_csv(people(3000)))[:-500], "truncated or damaged gzip"),
        (as_csv(people(30)) + b'1,"cook,w,<=50K\n' + as_csv(people(9), None), "never closed"),
    ],
)
def test_broken_csv_files_are_refused(workshop: Workshop, content: bytes, message: str) -> None:
    workshop.files["people.csv"] = content
    with pytest.raises(DataError, match=message):
        workshop.run("ingest")
    assert not workshop.layout().step("ingest").exists()


def test_a_delimiter_that_is_not_the_files_is_named_with_the_key(workshop: Workshop) -> None:
    workshop.files["people.csv"] = as_csv(people(300)).replace(b",", b";")
    with pytest.raises(DataError, match=r'Line 1 has these columns: set .*\.delimiter: ";"'):
        workshop.run("ingest")


def test_rows_in_another_encoding_go_to_the_dead_letter_file(workshop: Workshop) -> None:
    rows = as_csv(people(300)) + "44,Köchin,w,<=50K\n".encode("latin-1")
    workshop.files["people.csv"] = rows
    record = workshop.run("ingest").detail_as(IngestRecord)
    assert record.bad_row_reasons == {"row: not UTF-8": 1}
    (line,) = (
        (workshop.layout().step("ingest") / record.dead_letter).read_text("utf-8").split("\n")[:-1]
    )
    entry = json.loads(line)
    assert entry["found"].startswith(r"'K\xf6chin' (cp1252 reads 'Köchin'")


def test_parquet_columns_without_a_place_in_an_example_are_refused_by_name(
    workshop: Workshop, edit: Edit
) -> None:
    table = pa.table({"age": [1], "job": [{"a": 1}], "words": ["x"], "income": ["<=50K"]})
    workshop.write()
    pq.write_table(table, workshop.folder / "people.parquet")
    edit("ingest.source", {"kind": "parquet", "files": ["people.parquet"]})
    with pytest.raises(DataError, match=r"column 'job' is a struct \(struct<a: int64>\)"):
        workshop.run("ingest")


def test_a_missing_file_is_refused(workshop: Workshop, edit: Edit) -> None:
    edit("ingest.source.files", ["nowhere.csv"])
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        workshop.run("ingest")


def test_a_truncated_parquet_file_is_refused(workshop: Workshop, edit: Edit) -> None:
    workshop.files["people.parquet"] = b"PAR1 and then nothing"
    edit("ingest.source", {"kind": "parquet", "files": ["people.parquet"]})
    with pytest.raises(DataError, match="truncated or not a Parquet file"):
        workshop.run("ingest")


def test_a_truncated_idx_file_is_refused(images: Workshop) -> None:
    images.files["images.gz"] = gzip.compress(gzip.decompress(images.files["images.gz"])[:-7])
    with pytest.raises(DataError, match="truncated: 199 of 200 rows"):
        images.run("ingest")


def test_a_split_that_would_be_empty_is_refused(workshop: Workshop, edit: Edit) -> None:
    edit("ingest.split", {"train": 0.5, "eval": 0.499999, "test": 0.000001})
    with pytest.raises(DataError, match=r"split 'test' is empty: none of 300 rows"):
        workshop.run("ingest")


def test_an_unknown_runner_is_refused(workshop: Workshop, edit: Edit) -> None:
    edit("ingest.beam", {"runner": "NoSuchRunner"})
    with pytest.raises(ConfigError, match="NoSuchRunner"):
        workshop.run("ingest")


def test_rows_of_a_caller_encode_to_the_features_that_were_ingested(workshop: Workshop) -> None:
    workshop.run("ingest")
    columns = read_split(workshop, "test")
    again = encode_rows(to_rows(columns), workshop.frozen())
    from tensorflow.core.example import example_pb2

    stored = next(iter(read_serialized(workshop.shards("ingest", "test"))))
    for mine, theirs in zip(again, stored, strict=True):
        features = example_pb2.Example.FromString(theirs).features.feature
        for name, value in example_pb2.Example.FromString(mine).features.feature.items():
            assert value == features[name]
