"""Raw examples written to shards and read back."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from components.data.raw_examples import RawColumns, encode, read_batches, read_raw
from components.data.tf_example import example_class
from components.data.tfrecord_shards import read_records, write_shard
from contract.errors import DataError
from contract.loader import validate
from contract.schema.data import Compression
from contract.schema.pipeline import PipelineConfig


@pytest.fixture
def config() -> PipelineConfig:
    raw: dict[str, Any] = {
        "name": "people",
        "features": {
            "age": {"dtype": "int64", "default": 30},
            "face": {"dtype": "float32", "shape": [2, 2]},
            "words": {"dtype": "string", "is_variable_length": True},
        },
        "heads": {"height": {"task": "regression"}},
        "weight": "mass",
        "ingest": {"source": {"kind": "csv", "files": ["people.csv"]}},
    }
    return validate(PipelineConfig, raw, "people")


def batch(rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "age": pa.array([None if n % 2 else [n] for n in range(rows)], pa.list_(pa.int64())),
            "face": pa.array([[n, 1, 2, 3] for n in range(rows)], pa.list_(pa.float32())),
            "words": pa.array([[b"w"] * (n % 3) for n in range(rows)], pa.list_(pa.binary())),
            "label:height": pa.array([[n / 2] for n in range(rows)], pa.list_(pa.float32())),
            "example_id": pa.array([[b"%d" % n] for n in range(rows)], pa.list_(pa.binary())),
            "weight": pa.array([[0.5]] * rows, pa.list_(pa.float32())),
        }
    )


def check(columns: RawColumns, rows: int) -> None:
    assert columns.ids.tolist() == [b"%d" % n for n in range(rows)]
    assert columns.features["age"].tolist() == [30 if n % 2 else n for n in range(rows)]
    assert columns.features["face"][-1].tolist() == [[rows - 1, 1], [2, 3]]
    assert [len(words) for words in columns.features["words"]] == [n % 3 for n in range(rows)]
    assert columns.labels["height"].tolist() == [n / 2 for n in range(rows)]
    assert columns.weights is not None
    assert columns.weights.tolist() == [0.5] * rows


def test_what_is_written_is_read(config: PipelineConfig, tmp_path: Path) -> None:
    examples = encode(batch(5000))
    write_shard(tmp_path / "a", examples[:3000])
    write_shard(tmp_path / "b", examples[3000:])
    check(read_raw([tmp_path / "a", tmp_path / "b"], config), 5000)
    check(read_raw([tmp_path / "a", tmp_path / "b"], config, limit=4500), 4500)
    assert sum(len(part) for part in read_batches([tmp_path / "a"], config)) == 3000


def test_no_shards_have_no_rows(config: PipelineConfig) -> None:
    columns = read_raw([], config)
    assert len(columns) == 0
    assert columns.features["face"].shape == (0, 2, 2)


def test_encoding_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    assert encode(batch(50)) == encode(batch(50))
    write_shard(tmp_path / "a", encode(batch(50)))
    write_shard(tmp_path / "b", encode(batch(50)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_damaged_shard_is_named(config: PipelineConfig, tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tfrecord.gz", np.array(encode(batch(500))).tolist())
    whole = (tmp_path / "a.tfrecord.gz").read_bytes()
    (tmp_path / "a.tfrecord.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        read_raw([tmp_path / "a.tfrecord.gz"], config)


@pytest.mark.parametrize(("compression", "name"), [("gzip", "GZIP"), ("none", "")])
def test_tensorflow_reads_what_we_write_and_the_reverse(
    tmp_path: Path, compression: Compression, name: str
) -> None:
    random = np.random.default_rng(5)
    records = [random.bytes(size) for size in [0, 1, 3_000_000, *random.integers(0, 900, 5000)]]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write_shard(ours, records, compression)
    with tf.io.TFRecordWriter(str(theirs), name) as writer:
        for record in records:
            writer.write(record)
    read = tf.data.TFRecordDataset([str(ours)], name).as_numpy_iterator()
    assert list(read) == records
    assert list(read_records(theirs, compression)) == records


def test_our_message_has_the_bytes_of_tensorflows() -> None:
    for example in encode(batch(50)):
        whole = tf.train.Example.FromString(example)
        assert whole.features.feature["face"].float_list.value
        expected = whole.SerializeToString(deterministic=True)
        assert example_class().FromString(expected).SerializeToString(deterministic=True) == example
        assert expected == example
