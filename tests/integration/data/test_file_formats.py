"""Rows of one content give the same examples, whatever file they come from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
import tensorflow as tf
from pyarrow import orc

from contract.errors import DataError
from contract.records.data import IngestRecord

from .conftest import COLUMNS, Workshop, people

Edit = Callable[[str, Any], None]
ROWS: list[dict[str, Any]] = [
    {"age": int(age), "job": job, "words": words.split(), "income": label}
    for age, job, words, label in people(300)
]
FIELDS = [
    {"name": "age", "type": "int"},
    {"name": "job", "type": "string"},
    {"name": "words", "type": {"type": "array", "items": "string"}},
    {"name": "income", "type": "string"},
]


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_arrow(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def as_orc(path: Path) -> None:
    orc.write_table(pa.Table.from_pylist(ROWS), path)


def as_avro(path: Path) -> None:
    with path.open("wb") as file:
        schema: Any = {"type": "record", "name": "person", "fields": FIELDS}
        fastavro.writer(file, schema, ROWS)


def as_tfrecord(path: Path) -> None:
    """By TensorFlow's own writer, as TFX does."""

    def text(*values: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in ROWS:
            age = tf.train.Feature(int64_list=tf.train.Int64List(value=[row["age"]]))
            features = {"age": age, "job": text(row["job"]), "income": text(row["income"])}
            if row["words"]:
                features["words"] = text(*row["words"])
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


FORMATS = {
    "jsonl": as_jsonl,
    "arrow": as_arrow,
    "orc": as_orc,
    "avro": as_avro,
    "tfrecord": as_tfrecord,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_gives_the_same_examples_as_csv(
    workshop: Workshop, edit: Edit, kind: str
) -> None:
    expected = workshop.run("ingest", run_id="csv").artifacts["examples"].digest
    workshop.write()
    FORMATS[kind](workshop.folder / "rows.data")
    edit("ingest.source", {"kind": kind, "files": ["rows.data"]})
    result = workshop.run("ingest", run_id=kind)
    assert result.detail_as(IngestRecord).columns == tuple(
        sorted(COLUMNS) if kind == "tfrecord" else COLUMNS
    )
    assert result.artifacts["examples"].digest == expected


def test_one_bad_file_among_many_is_named_and_leaves_no_artifact(
    workshop: Workshop, edit: Edit
) -> None:
    workshop.write()
    for number in range(40):
        as_jsonl(workshop.folder / f"rows-{number:02d}.jsonl")
    broken = workshop.folder / "rows-17.jsonl"
    broken.write_bytes(broken.read_bytes()[:-9])
    edit("ingest.source", {"kind": "jsonl", "files": ["rows-*.jsonl"]})
    with pytest.raises(DataError, match="rows-17.jsonl: truncated: the last line, 300, "):
        workshop.run("ingest")
    assert not list(workshop.root.rglob("*.tfrecord*"))


def test_images_of_class_folders_become_examples_with_their_bytes(
    workshop: Workshop, edit: Edit
) -> None:
    from PIL import Image

    contents = set()
    for number in range(60):
        folder = workshop.folder / "pictures" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:02d}.{('png', 'jpg')[number % 3 == 0]}"
        Image.new("RGB", (8, 8), (number, 2 * number, 90)).save(path)
        contents.add(path.read_bytes())
    (folder / "broken.jpg").write_bytes(path.read_bytes()[:40])
    edit("features", {"image": {"dtype": "string"}})
    classes = ["cat", "dog"]
    head = {"task": "binary_classification", "column": "label", "classes": classes}
    edit("heads", {"kind": head})
    edit("evaluate.slices", [])
    edit("ingest.source", {"kind": "images", "folder": "pictures"})
    edit("ingest.split", {"key": "path"})
    edit("ingest.max_bad_ratio", 0.1)
    result = workshop.run("ingest")
    record = result.detail_as(IngestRecord)
    assert sum(record.examples.values()) == 60
    assert set(record.bad_row_reasons.values()) == {1}
    shards = [str(p) for p in workshop.root.rglob("*.tfrecord.gz")]
    found = [
        tf.train.Example.FromString(r.numpy()).features.feature["image"].bytes_list.value[0]
        for r in tf.data.TFRecordDataset(shards, "GZIP")
    ]
    assert set(found) == contents
