"""tf.Transform over raw shards: dense, ragged and sparse outputs, and users' mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data.raw_examples import read_raw
from components.data.tfrecord_shards import compression_type
from components.ingest.ingest import ingest
from components.transform.refusals import Refusal
from components.transform.transform import RawData, transform
from contract.errors import DataError, UserCodeError
from contract.loader import validate
from contract.records.data import TransformRecord
from contract.schema.data import SPLITS
from contract.schema.pipeline import PipelineConfig

from .conftest import Workshop, as_csv, people, small_config

HEAD = "import tensorflow as tf\nimport tensorflow_transform as tft\n"


def returning(expression: str) -> str:
    return f"{HEAD}\ndef preprocessing_fn(inputs):\n    return {expression}\n"


TWO_VOCABULARIES = returning(
    '{"a": tft.compute_and_apply_vocabulary(inputs["job"], vocab_filename="v"),'
    ' "b": tft.compute_and_apply_vocabulary(inputs["words"], vocab_filename="v")}'
)
LOST_TABLE = f"""{HEAD}
def preprocessing_fn(inputs):
    file = tf.lookup.TextFileInitializer(
        "/nowhere/v.txt", tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return {{"x": tf.lookup.StaticHashTable(file, -1).lookup(inputs["job"])}}
"""
OWN_ANALYZER = f"""{HEAD}import apache_beam as beam

class Sum(beam.CombineFn):
    def create_accumulator(self):
        return 0
    def add_input(self, accumulator, batch):
        raise ValueError("no sum today")
    def merge_accumulators(self, accumulators):
        return 0
    def extract_output(self, accumulator):
        return [0.0]

@beam.ptransform_fn
def total(rows):
    return rows | beam.CombineGlobally(Sum())

def preprocessing_fn(inputs):
    found, = tft.experimental.ptransform_analyzer([inputs["age"]], total(), [tf.float32], [[]])
    return {{"x": tf.cast(inputs["age"], tf.float32) - found}}
"""


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineConfig, RawData]:
    """Raw shards of the small pipeline, made once: mistakes are found before or after reading."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "people.csv").write_bytes(as_csv(people(300)))
    raw = small_config()
    raw["ingest"]["source"]["files"] = [str(folder / "people.csv")]
    config = validate(PipelineConfig, raw, "people")
    (folder / "output").mkdir()
    record = ingest(config, [], folder / "output", folder / "dead-letter.jsonl")
    shards = {s: [folder / "output" / n for n in names] for s, names in record.shards.items()}
    return config, RawData(shards, record.examples)


def read(shop: Workshop, split: str, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a split's transformed examples, parsed by the graph's own feature spec."""
    import tensorflow as tf
    import tensorflow_transform as tft

    output = tft.TFTransformOutput(str(shop.layout().step("transform") / "transform_graph"))
    spec = output.transformed_feature_spec() | {
        "label:income": tf.io.FixedLenFeature([], tf.int64),
        "example_id": tf.io.FixedLenFeature([], tf.string),
        "slice:job": tf.io.FixedLenFeature([], tf.string),
        "slice:age": tf.io.FixedLenFeature([], tf.string),
        **(extra or {}),
    }
    shards = [str(path) for path in shop.shards("transform", split)]
    rows = list(tf.data.TFRecordDataset(shards, "GZIP").as_numpy_iterator())
    return tf.io.parse_example(rows, spec)


def test_every_row_comes_through_with_its_label_id_and_slices(workshop: Workshop) -> None:
    record = workshop.run("ingest", "validate", "transform").detail_as(TransformRecord)
    for split in SPLITS:
        raw = read_raw(workshop.shards("ingest", split), workshop.frozen())
        columns = read(workshop, split)
        assert record.examples[split] == len(raw)
        place = {key: n for n, key in enumerate(raw.ids.tolist())}
        order = [place[key] for key in columns["example_id"].numpy().tolist()]
        assert sorted(order) == list(range(len(raw)))
        assert columns["label:income"].numpy().tolist() == raw.labels["income"][order].tolist()
        assert columns["slice:job"].numpy().tolist() == raw.features["job"][order].tolist()
        ages = [str(age).encode() for age in raw.features["age"][order]]
        assert columns["slice:age"].numpy().tolist() == ages


def test_means_and_vocabularies_come_from_the_train_part_alone(workshop: Workshop) -> None:
    workshop.run("ingest", "validate", "transform")
    raw = read_raw(workshop.shards("ingest", "train"), workshop.frozen())
    ages = raw.features["age"].astype(np.float64)
    test = read_raw(workshop.shards("ingest", "test"), workshop.frozen())
    columns = read(workshop, "test")
    by_id = dict(zip(columns["example_id"].numpy().tolist(), columns["age"].numpy(), strict=True))
    expected = (test.features["age"] - ages.mean()) / ages.std()
    found = [by_id[key] for key in test.ids.tolist()]
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_ragged_features_keep_their_lists(workshop: Workshop) -> None:
    workshop.run("ingest", "validate", "transform")
    raw = read_raw(workshop.shards("ingest", "train"), workshop.frozen())
    columns = read(workshop, "train")
    found = dict(
        zip(columns["example_id"].numpy().tolist(), columns["words"].to_list(), strict=True)
    )
    for key, words in zip(raw.ids.tolist(), raw.features["words"], strict=True):
        assert found[key] == [len(word) for word in words]


def test_sparse_and_multidimensional_outputs_are_written(workshop: Workshop) -> None:
    workshop.preprocessing = returning(
        '{"bag": inputs["words"].to_sparse(),'
        ' "pair": tf.stack([inputs["age"], 2 * inputs["age"]], axis=1),'
        ' "matrix": tf.ones([tf.shape(inputs["age"])[0], 2, 3]),'
        ' "is_old": inputs["age"] > 50}'
    )
    workshop.run("ingest", "validate", "transform")
    columns = read(workshop, "eval")
    raw = read_raw(workshop.shards("ingest", "eval"), workshop.frozen())
    place = {key: n for n, key in enumerate(raw.ids.tolist())}
    order = [place[key] for key in columns["example_id"].numpy().tolist()]
    ages = raw.features["age"][order]
    assert columns["pair"].numpy().tolist() == np.stack([ages, 2 * ages], 1).tolist()
    assert columns["matrix"].shape == (len(raw), 2, 3)
    assert columns["is_old"].numpy().tolist() == (ages > 50).astype(int).tolist()
    bags = [len(words) for words in raw.features["words"][order]]
    rows = columns["bag"].indices.numpy()[:, 0]
    assert np.bincount(rows, minlength=len(raw)).tolist() == bags


def test_the_graph_applies_to_raw_rows_as_the_pipeline_did(workshop: Workshop) -> None:
    import tensorflow as tf
    import tensorflow_transform as tft

    workshop.run("ingest", "validate", "transform")
    raw = read_raw(workshop.shards("ingest", "test"), workshop.frozen())
    graph = workshop.layout().step("transform") / "transform_graph"
    layer = tft.TFTransformOutput(str(graph)).transform_features_layer()
    words = tf.ragged.constant([list(w) for w in raw.features["words"]], tf.string, ragged_rank=1)
    inputs = {
        "age": tf.constant(raw.features["age"]),
        "job": tf.constant(raw.features["job"]),
        "words": words.with_row_splits_dtype(tf.int64),
    }
    served = layer(inputs)
    columns = read(workshop, "test")
    by_id = dict(zip(columns["example_id"].numpy().tolist(), columns["job"].numpy(), strict=True))
    assert served["job"].numpy().tolist() == [by_id[key] for key in raw.ids.tolist()]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (returning("[1]"), "returned list, expected a dict"),
        (returning("{}"), "returned an empty dict"),
        (returning("{'x': 3}"), "output 'x': expected a Tensor.*found int"),
        (returning("{'x': tf.constant(3)}"), "output 'x': has no batch dimension"),
        (returning("{'label:x': inputs['age']}"), "the name is reserved"),
        (returning("inputs['agee']"), r"KeyError at preprocessing.py:5: 'agee'"),
        (HEAD + "def preprocess(inputs): return inputs", "expected a function preprocessing_fn"),
        (HEAD + "def preprocessing_fn(): return {}", "expected preprocessing_fn"),
        ("import nothing_like_it", "preprocessing.py: import: ModuleNotFoundError"),
        (
            returning("{'x': tf.strings.to_number(inputs['job'])}"),
            "preprocessing_fn: failed on the data: .*could not correctly convert string",
        ),
        (returning("{'x': inputs['age'][:3]}"), "changed the number of rows"),
        (
            f"{HEAD}\nC = tf.constant([1.0, 2.0])\n{returning('{chr(120): C}')[len(HEAD) :]}",
            r"output 'x': is a constant that was computed outside of the function, of shape \(2,\)",
        ),
        (
            returning(
                "{'x': tf.ensure_shape(tf.py_function(abs, [inputs['age']], 'float32'), [None])}"
            ),
            "'EagerPyFunc' calls Python .* expected operations of TensorFlow only",
        ),
        (
            returning(
                "{'x': tf.map_fn(lambda v: tf.numpy_function(abs, [v], v.dtype), inputs['age'])}"
            ),
            "calls Python",
        ),
        (
            returning("{'x': tf.random.uniform(tf.shape(inputs['age']), seed=1)}"),
            "RandomUniform' draws other numbers in each call",
        ),
        (
            returning("{'x': tf.map_fn(lambda v: v - tft.max(v), inputs['age'])}"),
            "preprocessing_fn: tensorflow_transform refuses it: ValueError: .*placeholder",
        ),
        (TWO_VOCABULARIES, "two vocabularies have the vocab_filename 'v', so one would replace"),
        (LOST_TABLE, r"failed on the data: .*InitializeTable.*v\.txt; No such file"),
        (OWN_ANALYZER, "preprocessing_fn: ValueError at preprocessing.py:9: no sum today"),
        (
            f"import sys\n{HEAD}\ndef preprocessing_fn(inputs):\n    sys.exit(0)\n",
            "SystemExit at preprocessing.py:6: 0",
        ),
    ],
)
def test_mistakes_in_preprocessing_are_named(
    ingested: tuple[PipelineConfig, RawData], tmp_path: Path, code: str, message: str
) -> None:
    config, data = ingested
    (tmp_path / "preprocessing.py").write_text(code)
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(UserCodeError, match=message):
        transform(config, tmp_path, data, output)


def test_a_refusal_that_beam_has_got_over_is_no_part_of_the_artifact(
    ingested: tuple[PipelineConfig, RawData], tmp_path: Path
) -> None:
    config, data = ingested
    (tmp_path / "preprocessing.py").write_text(returning("{'x': inputs['age']}"))
    output = tmp_path / "output"
    output.mkdir()
    Refusal(reason="a worker that was lost").write(output / "refused.json")
    transform(config, tmp_path, data, output)
    assert sorted(path.name for path in output.iterdir()) == ["examples", "transform_graph"]


def test_shards_hold_the_same_examples_with_and_without_compression(
    ingested: tuple[PipelineConfig, RawData], tmp_path: Path
) -> None:
    import tensorflow as tf

    config, data = ingested
    (tmp_path / "preprocessing.py").write_text(returning("{'x': inputs['age']}"))
    examples = {}
    for compression, suffix in (("gzip", ".tfrecord.gz"), ("none", ".tfrecord")):
        output = tmp_path / compression
        output.mkdir()
        changed = config.transform.model_copy(update={"compression": compression})
        record = transform(config.model_copy(update={"transform": changed}), tmp_path, data, output)
        shards = [output / name for name in record.shards["train"]]
        assert all(shard.name.endswith(f"-of-{len(shards):05d}{suffix}") for shard in shards)
        read = tf.data.TFRecordDataset(list(map(str, shards)), compression_type(shards[0]))
        examples[compression] = list(read.as_numpy_iterator())
    assert len(examples["gzip"]) == data.examples["train"]
    assert examples["none"] == examples["gzip"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_a_damaged_raw_shard_is_named(
    ingested: tuple[PipelineConfig, RawData], tmp_path: Path, damage: str
) -> None:
    config, data = ingested
    (tmp_path / "preprocessing.py").write_text(returning("{'x': inputs['age']}"))
    copied = tmp_path / "eval-00000-of-00001.tfrecord.gz"
    content = data.shards["eval"][0].read_bytes()
    if damage != "missing":
        copied.write_bytes(content[:-200] if damage == "truncated" else b"")
    broken = RawData({**data.shards, "eval": [copied]}, data.examples)
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(DataError, match="eval-00000-of-00001"):
        transform(config, tmp_path, broken, output)


def test_a_model_that_cannot_be_right_ends_the_step_before_the_data_are_read(
    workshop: Workshop,
) -> None:
    workshop.files["model.py"] = b"""
import keras

def build_model(features, hyperparameters):
    age = keras.layers.Reshape((1,))(features["age"])
    output = keras.layers.Dense(1, activation="sigmoid")(age)
    return keras.Model(inputs=features, outputs=output)
"""
    with pytest.raises(UserCodeError, match=r"head 'income' ends in a sigmoid"):
        workshop.run("ingest", "validate", "transform")
