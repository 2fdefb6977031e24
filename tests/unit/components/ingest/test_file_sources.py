"""Files of every format: what is read, and what is refused with its place."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import orc

from components.data.tf_example import example_class
from components.data.tfrecord_shards import write_shard
from components.ingest.sources import module_of, tfrecord
from contract.errors import DataError
from contract.schema.data import Source
from contract.schema.data_sources import (
    ArrowSource,
    AvroSource,
    ImagesSource,
    JsonLinesSource,
    OrcSource,
    TfRecordSource,
)

ROWS = [{"size": n, "name": f"row {n}"} for n in range(10_000)]
TABLE = pa.Table.from_pylist(ROWS)
AVRO_SCHEMA: Any = {
    "type": "record",
    "name": "row",
    "fields": [{"name": "size", "type": ["null", "long"]}, {"name": "name", "type": "string"}],
}
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" + b"IEND\xaeB\x60\x82"
JPEG = b"\xff\xd8\xff\xe0" + b"pixels" + b"\xff\xd9"


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_arrow_file(path: Path) -> None:
    with pa.ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=4000)


def as_arrow_stream(path: Path) -> None:
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=4000)


def as_orc(path: Path) -> None:
    orc.write_table(TABLE, path)


def as_avro(path: Path) -> None:
    with path.open("wb") as file:
        fastavro.writer(file, AVRO_SCHEMA, ROWS, codec="deflate")


def example(**features: Any) -> bytes:
    made: Any = example_class()()
    for name, value in features.items():
        feature = made.features.feature[name]
        kind = {int: feature.int64_list, float: feature.float_list, bytes: feature.bytes_list}
        kind[type(value)].value.append(value)
    return bytes(made.SerializeToString())


def as_tfrecord(path: Path) -> None:
    write_shard(path, [example(size=r["size"], name=str(r["name"]).encode()) for r in ROWS], "none")


def as_packed_tfrecord(path: Path) -> None:
    write_shard(path, [example(size=r["size"], name=str(r["name"]).encode()) for r in ROWS])


def source_of(kind: Any, path: Path) -> Any:
    (name,) = kind.model_fields["kind"].annotation.__args__
    return kind(kind=name, files=(str(path),))


def rows_of(source: Source) -> list[Any]:
    module = module_of(source)
    return [rows for file in module.files(source) for rows in module.read(source, file)]


def values_of(source: Source, column: str) -> list[Any]:
    return [value for rows in rows_of(source) for value in rows.columns[column].to_pylist()]


FORMATS = [
    (JsonLinesSource, as_jsonl),
    (ArrowSource, as_arrow_file),
    (ArrowSource, as_arrow_stream),
    (OrcSource, as_orc),
    (AvroSource, as_avro),
    (TfRecordSource, as_tfrecord),
    (TfRecordSource, as_packed_tfrecord),
]
each_format = pytest.mark.parametrize(("kind", "write"), FORMATS, ids=lambda x: x.__name__)


@each_format
def test_every_row_is_read_once_with_its_number_and_the_columns_of_its_folders(
    tmp_path: Path, kind: type, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "year=2024" / "part-0"
    path.parent.mkdir()
    write(path)
    (path.parent / "_SUCCESS").touch()
    source = source_of(kind, tmp_path)
    assert set(module_of(source).columns(source, path)) == {"size", "name", "year"}
    sizes = values_of(source, "size")
    assert [s[0] if isinstance(s, list) else s for s in sizes] == [r["size"] for r in ROWS]
    assert np.concatenate([rows.rows for rows in rows_of(source)]).tolist() == list(
        range(1, len(ROWS) + 1)
    )
    assert set(values_of(source, "year")) == {"2024"}
    assert module_of(source).size_bytes(source, path) == path.stat().st_size


@each_format
@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.999])
def test_a_file_that_was_cut_is_refused_by_name(
    tmp_path: Path, kind: type, write: Callable[[Path], None], part: float
) -> None:
    path = tmp_path / "rows"
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    source = source_of(kind, path)
    with pytest.raises(DataError, match=f"{path}: "):
        rows_of(source)


@each_format
def test_a_file_of_another_format_is_refused_by_name(
    tmp_path: Path, kind: type, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "rows"
    for content in (b"a,b\n1,2\n", b"PAR1 and more", b"\x00" * 100, gzip.compress(b"a,b\n1,2\n")):
        path.write_bytes(content)
        source = source_of(kind, path)
        with pytest.raises(DataError, match=f"{path}: "):
            module_of(source).columns(source, path)


@each_format
def test_a_file_that_is_not_there_is_refused_by_name(
    tmp_path: Path, kind: type, write: Callable[[Path], None]
) -> None:
    source = source_of(kind, tmp_path / "absent")
    with pytest.raises(DataError, match="absent: no such file"):
        module_of(source).files(source)
    with pytest.raises(DataError, match="absent: no such file"):
        module_of(source).columns(source, tmp_path / "absent")


def test_an_arrow_stream_that_was_cut_between_two_batches_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    as_arrow_stream(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="does not end in the mark of the stream's end"):
        rows_of(source_of(ArrowSource, path))


def test_lines_that_are_no_object_are_bad_rows_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"a": 1}\n\n[1]\n{"a": 2, "a": 3}\n{"a": \n{"a": "\xff"}\n{"b": {"c": 1}, "a": "x"}\n7\n'
        b'{"a": "\\ud800"}\n'
    )
    source = source_of(JsonLinesSource, path)
    (rows,) = rows_of(source)
    assert rows.columns.to_pydict() == {"a": ["1", "x"], "b": [None, '{"c": 1}']}
    assert rows.rows.tolist() == [1, 7]
    assert [(bad.row, bad.reason) for bad in rows.bad] == [
        (3, "row: a JSON array, not an object"),
        (4, "row: not usable: the key 'a' stands twice"),
        (5, "row: not JSON"),
        (6, "row: not UTF-8"),
        (8, "row: a JSON number, not an object"),
        (9, "row: not text: half of a surrogate pair"),
    ]


def test_packed_json_lines_are_unpacked_and_truncated_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    for pack in (gzip.compress, bz2.compress):
        path.write_bytes(pack(b'{"a": 1}\n{"a": 2}'))
        assert values_of(source_of(JsonLinesSource, path), "a") == [1, 2]
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(DataError, match="truncated or damaged"):
            rows_of(source_of(JsonLinesSource, path))


def test_keys_that_come_up_late_are_read_where_the_config_names_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' * 1500 + '{"a": 2, "b": 3}\n')
    source = source_of(JsonLinesSource, path)
    assert module_of(source).columns(source, path) == ("a",)
    named = source.model_copy(update={"columns": ("a", "b")})
    assert values_of(named, "b")[-1] == 3


def test_an_avro_field_of_several_types_is_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.avro"
    fields: Any = [{"name": "a", "type": ["null", "long", "string"]}]
    with path.open("wb") as file:
        records = [{"a": 1}, {"a": "two"}, {"a": None}]
        fastavro.writer(file, {"type": "record", "name": "r", "fields": fields}, records)
    assert values_of(source_of(AvroSource, path), "a") == ["1", "two", None]


def test_a_feature_that_changes_its_type_and_a_record_that_is_no_example_lose_no_row(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows"
    write_shard(path, [example(a=1), example(a=2.5), b"\xff\xff", example(b=b"x"), example(a=3)])
    found = rows_of(source_of(TfRecordSource, path))
    rows = [
        (int(n), a) for r in found for n, a in zip(r.rows, r.columns["a"].to_pylist(), strict=True)
    ]
    assert rows == [(1, [1]), (2, [2.5]), (4, None), (5, [3])]
    assert [(bad.row, bad.reason) for r in found for bad in r.bad] == [(3, "row: not a tf.Example")]


def test_records_that_are_no_examples_have_the_columns_of_their_folders(tmp_path: Path) -> None:
    path = tmp_path / "year=2024" / "rows"
    path.parent.mkdir()
    write_shard(path, [b"\xff\xff"])
    source = TfRecordSource(kind="tfrecord", files=(str(path),), columns=("a",))
    (rows,) = tfrecord.read(source, path)
    assert rows.columns.schema.names == list(tfrecord.columns(source, path)) == ["a", "year"]
    assert len(rows.bad) == 1


def test_a_tfrecord_with_a_flipped_bit_is_refused_with_the_record(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    write_shard(path, [example(a=1), example(a=2)], "none")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="record 2 is not whole"):
        rows_of(source_of(TfRecordSource, path))


def test_images_have_the_class_of_their_folder_and_their_own_bytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cat" / "old").mkdir(parents=True)
    (tmp_path / "dog").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "a.JPG").write_bytes(JPEG)
    (tmp_path / "cat" / "old" / "b.png").write_bytes(PNG)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "dog" / "c.jpeg").write_bytes(JPEG + b"\0" * 16)
    source = ImagesSource(kind="images", folder=str(tmp_path))
    assert values_of(source, "label") == ["cat", "cat", "dog"]
    assert values_of(source, "path") == ["cat/a.JPG", "cat/old/b.png", "dog/c.jpeg"]
    assert values_of(source, "image") == [JPEG, PNG, JPEG + b"\0" * 16]
    assert "1 files are left out, because their names do not end in" in caplog.text
    assert "cat/notes.txt" in caplog.text


def test_unreadable_images_are_bad_rows_with_reason_and_file(tmp_path: Path) -> None:
    cats = tmp_path / "cat"
    cats.mkdir()
    contents = {"a.png": PNG, "b.png": PNG[:-4], "c.jpg": JPEG[:-2], "d.jpg": b"", "e.png": b"GIF"}
    for name, content in contents.items():
        (cats / name).write_bytes(content)
    (cats / "f.png").symlink_to("nowhere")
    (rows,) = rows_of(ImagesSource(kind="images", folder=str(tmp_path)))
    assert rows.columns["path"].to_pylist() == ["cat/a.png"]
    assert [(Path(bad.file).name, bad.row, bad.reason) for bad in rows.bad] == [
        ("b.png", 2, "image: truncated"),
        ("c.jpg", 3, "image: truncated"),
        ("d.jpg", 4, "image: empty"),
        ("e.png", 5, "image: neither a JPEG nor a PNG file"),
        ("f.png", 6, "image: cannot be read: No such file or directory"),
    ]


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    source = ImagesSource(kind="images", folder=str(tmp_path))
    with pytest.raises(DataError, match="0 folders, none with a file that ends in"):
        rows_of(source)
    with pytest.raises(DataError, match="absent: no such folder"):
        rows_of(source.model_copy(update={"folder": str(tmp_path / "absent")}))
