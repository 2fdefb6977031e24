"""Raw rows to transformed TFRecords: `python tests/benchmarks/bench_ingest.py [--rows 60000 ...]`.

`ingest`, `validate` and `transform`, each as a process of its own, of a table with 18 floats, 6
integers and 6 texts, read from CSV or, with `--format parquet`, from Parquet. Beside them, on the
same file:

- Beam and tf.Transform by hand: `CsvTFXIO`, the same `preprocessing_fn`, `WriteToTFRecord`; without
  raw shards, splits, bad rows, schema, statistics or a digest of each row (CSV only);
- DuckDB for the statistics, and a loop that writes one `tf.train.Example` after the other;
- the limit: DuckDB reads the file and computes all statistics, and nothing is written.

Prints JSON lines: CPU seconds of whole processes, medians of the rounds, and the largest process.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from support import Cost, cost_of, emit

COMPONENTS = ("ingest", "validate", "transform")
FLOATS = tuple(f"float_{number}" for number in range(18))
INTEGERS = tuple(f"count_{number}" for number in range(6))
TEXTS = tuple(f"text_{number}" for number in range(6))
CATEGORIES = 100
SEED = 21

PIPELINE = """
name: wide
features:
{features}
heads: {{ label: {{ task: binary_classification, classes: ["no", "yes"] }} }}
ingest:
  source: {{ kind: {kind}, files: [{file}] }}
train: {{ steps: 1 }}
"""
PREPROCESSING = f"""
import tensorflow as tf
import tensorflow_transform as tft

FLOATS, INTEGERS, TEXTS = {FLOATS}, {INTEGERS}, {TEXTS}


def preprocessing_fn(inputs):
    outputs = {{name: tft.scale_to_z_score(inputs[name]) for name in FLOATS}}
    outputs |= {{name: tft.bucketize(inputs[name], 10, name=name) for name in INTEGERS}}
    for name in TEXTS:
        outputs[name] = tft.compute_and_apply_vocabulary(
            inputs[name], top_k=1000, num_oov_buckets=1, vocab_filename=name
        )
    return outputs
"""
MODEL = """
import keras
from keras import layers, ops


def build_model(features, hyperparameters):
    columns = [ops.expand_dims(ops.cast(one, "float32"), -1) for one in features.values()]
    return keras.Model(inputs=features, outputs=layers.Dense(1)(layers.Concatenate()(columns)))
"""

BEAM = """
import sys
import apache_beam as beam
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.public import tfxio
from preprocessing import FLOATS, INTEGERS, TEXTS, preprocessing_fn

source, output = sys.argv[1:]
columns = [*FLOATS, *INTEGERS, *TEXTS, "label"]
kinds = {**dict.fromkeys(FLOATS, tf.float32), **dict.fromkeys(INTEGERS, tf.int64)}
schema = schema_utils.schema_from_feature_spec(
    {name: tf.io.FixedLenFeature([], kinds.get(name, tf.string)) for name in columns}
)
reader = tfxio.CsvTFXIO(
    source, telemetry_descriptors=["bench"], column_names=columns, schema=schema,
    skip_header_lines=1,
)


def transformed(inputs):
    return {**preprocessing_fn(inputs), "label": inputs["label"]}


with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=output + "/temporary"):
    rows = pipeline | reader.BeamSource()
    (examples, metadata), _ = (
        (rows, reader.TensorAdapterConfig())
        | tft_beam.AnalyzeAndTransformDataset(transformed, output_record_batches=True)
    )
    encoder = RecordBatchToExamplesEncoder()
    _ = (
        examples
        | beam.FlatMapTuple(lambda batch, _: encoder.encode(batch))
        | beam.io.WriteToTFRecord(output + "/rows", file_name_suffix=".gz")
    )
"""

DUCKDB = (
    f"FLOATS, INTEGERS, TEXTS = {FLOATS}, {INTEGERS}, {TEXTS}"
    + """
import sys
import duckdb

source, output, what = sys.argv[1:]
duckdb.sql("SET threads = 2")
rows = duckdb.sql(f"SELECT * FROM '{source}'")
sums = ", ".join(f"avg({name}), stddev_pop({name}), min({name}), max({name})" for name in FLOATS)
cuts = [number / 10 for number in range(1, 10)]
quantiles = ", ".join(f"quantile_cont({name}, {cuts})" for name in INTEGERS)
(found,) = rows.aggregate(f"{sums}, {quantiles}").fetchall()
orders = {
    name: [word for word, _ in rows.aggregate(f"{name}, count(*) AS n", name)
           .order(f"n DESC, {name} DESC").limit(1000).fetchall()]
    for name in TEXTS
}
if what == "statistics":
    sys.exit()
import bisect
import tensorflow as tf
means = {name: (found[4 * i], found[4 * i + 1]) for i, name in enumerate(FLOATS)}
bounds = {name: found[4 * len(FLOATS) + i] for i, name in enumerate(INTEGERS)}
numbers = {name: {word: i for i, word in enumerate(order)} for name, order in orders.items()}
Feature, Floats, Integers = tf.train.Feature, tf.train.FloatList, tf.train.Int64List
with tf.io.TFRecordWriter(output + "/rows.gz", "GZIP") as writer:
    for batch in rows.to_arrow_reader(8192):
        for row in batch.to_pylist():
            made = {}
            for name in FLOATS:
                mean, deviation = means[name]
                value = (row[name] - mean) / deviation
                made[name] = Feature(float_list=Floats(value=[value]))
            for name in INTEGERS:
                bucket = bisect.bisect_right(bounds[name], row[name])
                made[name] = Feature(int64_list=Integers(value=[bucket]))
            for name in TEXTS:
                number = numbers[name].get(row[name], 1000)
                made[name] = Feature(int64_list=Integers(value=[number]))
            made["label"] = Feature(int64_list=Integers(value=[row["label"] == "yes"]))
            example = tf.train.Example(features=tf.train.Features(feature=made))
            writer.write(example.SerializeToString(deterministic=True))
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[60_000, 250_000])
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    for count in chosen.rows:
        with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
            compare(Path(folder), count, chosen.format, chosen.rounds)


def compare(folder: Path, count: int, kind: str, rounds: int) -> None:
    """Print the figures of one number of rows."""
    file = folder / f"rows.{kind}"
    write_rows(file, count)
    write_pipeline(folder / "pipelines" / "wide", file, kind)
    runs: dict[str, Callable[[Path], Cost]] = {
        name: lambda root, name=name: component(folder, name, root)  # type: ignore[misc]
        for name in COMPONENTS
    }
    if kind == "csv":
        runs["beam"] = lambda root: script(folder, BEAM, str(file), str(root))
    runs["duckdb"] = lambda root: script(folder, DUCKDB, str(file), str(root), "rows")
    runs["limit"] = lambda root: script(folder, DUCKDB, str(file), str(root), "statistics")
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder) as root:
            for name, run in runs.items():
                costs[name].append(run(Path(root)))
    cpu = {name: statistics.median(c.cpu_seconds for c in own) for name, own in costs.items()}
    peak = {name: round(max(c.peak_mib for c in own)) for name, own in costs.items()}
    ours = sum(cpu[name] for name in COMPONENTS)
    parts = {name: round(cpu[name], 2) for name in COMPONENTS}
    most = max(peak[name] for name in COMPONENTS)
    for peer in ("beam", "duckdb"):
        if peer in runs:
            name, peaks = f"{kind}_{count}_rows_by_{peer}", {"peak": most, "peer_peak": peak[peer]}
            emit(name, ours, cpu[peer], cpu["limit"], "CPU-s", **parts, **peaks)


def component(folder: Path, name: str, root: Path) -> Cost:
    """Run a component of the pipeline."""
    command = [sys.executable, "-m", f"components.{name}", "--pipeline", "wide", "--run-id", "a"]
    environment = {"SLIPWAY_PIPELINES": str(folder / "pipelines"), "CUDA_VISIBLE_DEVICES": "-1"}
    return cost_of([*command, "--root", str(root / "root")], environment)


def script(folder: Path, code: str, *words: str) -> Cost:
    """Run a peer, which imports the pipeline's `preprocessing.py`."""
    path = folder / "pipelines" / "wide"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"]
    return cost_of([*command, *words], {"CUDA_VISIBLE_DEVICES": "-1"})


def write_rows(file: Path, count: int) -> None:
    """Write rows whose texts are words of a hundred, each as frequent as another."""
    random = np.random.default_rng(SEED)
    columns: dict[str, Any] = {
        name: random.normal(size=count).astype(np.float32) for name in FLOATS
    }
    columns |= {name: random.integers(0, 1000, count) for name in INTEGERS}
    for name in TEXTS:
        words = np.array([f"{name}-{number}" for number in range(CATEGORIES)])
        columns[name] = random.choice(words, count)
    columns["label"] = random.choice(np.array(["no", "yes"]), count)
    table = pa.table(columns)
    if file.suffix == ".csv":
        pyarrow.csv.write_csv(table, file)
    else:
        pyarrow.parquet.write_table(table, file)


def write_pipeline(folder: Path, file: Path, kind: str) -> None:
    folder.mkdir(parents=True)
    kinds = {
        **dict.fromkeys(FLOATS, "float32"),
        **dict.fromkeys(INTEGERS, "int64"),
        **dict.fromkeys(TEXTS, "string"),
    }
    features = "\n".join(f"  {name}: {{ dtype: {dtype} }}" for name, dtype in kinds.items())
    text = PIPELINE.format(features=features, kind=kind, file=json.dumps(str(file)))
    (folder / "pipeline.yaml").write_text(text)
    (folder / "preprocessing.py").write_text(PREPROCESSING)
    (folder / "model.py").write_text(MODEL)


if __name__ == "__main__":
    main()
