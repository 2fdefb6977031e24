"""Step times by precision and XLA on one accelerator, and the share of what it can do at most.

Run as `python tests/benchmarks/bench_gpu.py [--rounds N] [--small] [--only MODEL ...]
[--table FILE]` on a machine with a GPU and TensorFlow's GPU wheel. Three models learn from TFRecord
shards, streamed, by the product's own step: a convnet, ResNet50 and a large dense net; in float32,
TF32, bfloat16 and float16, with XLA and without. The ceiling is a large matrix product in the same
precision and the same run; the share compares floating-point operations a second (of the forward
pass as TensorFlow's profiler counts them, times three). Without a GPU it runs on the CPU, small,
and says so: that shows that it works, is no figure, and no table is written.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from support import training_runs  # noqa: E402

from components.data.examples import example_source  # noqa: E402
from components.models.user_model import head_outputs  # noqa: E402
from components.train.input.feeding import Order, open_feed, plan_lanes  # noqa: E402
from components.train.learning.learner import Learner, make_learner  # noqa: E402
from components.train.learning.steps import step_function  # noqa: E402
from components.train.learning.strategies import open_strategy  # noqa: E402
from components.train.peers.collectives import Alone  # noqa: E402

PIPELINE = """
name: tiny
features:
  image: {{dtype: float32, shape: [{side}, {side}, 3]}}
heads:
  kind: {{task: multiclass_classification, classes: [a, b, c, d]}}
ingest:
  source: {{kind: csv, files: [rows.csv]}}
"""

MODEL = """
import keras
from keras import layers

def build_model(features, hyperparameters):
    image = features["image"]
    return keras.Model(inputs=features, outputs=layers.Dense(4, dtype="float32")(body(image)))
"""

CONVNET = """
def body(hidden):
    for filters in (64, 128, 256):
        hidden = layers.Conv2D(filters, 3, padding="same", use_bias=False)(hidden)
        hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
        hidden = layers.MaxPooling2D()(hidden)
    return layers.Flatten()(hidden)
"""

RESNET = """
def body(image):
    return keras.applications.ResNet50(
        include_top=False, weights=None, input_tensor=image, pooling="avg"
    ).output
"""

DENSE = """
def body(hidden):
    hidden = layers.Flatten()(hidden)
    for units in (WIDTH,) * 4:
        hidden = layers.Dense(units, activation="relu")(hidden)
    return hidden
"""


@dataclass(frozen=True)
class Size:
    """How large to make one model's trial."""

    code: str
    side: int
    batch: int
    rows: int
    steps: int


@dataclass(frozen=True)
class Trial:
    """One way to train a model."""

    precision: str
    is_compiled: bool


LARGE = {
    "convnet": Size(CONVNET, 64, 512, 2048, 40),
    "resnet50": Size(RESNET, 224, 128, 512, 30),
    "dense": Size(DENSE.replace("WIDTH", "8192"), 32, 4096, 8192, 30),
}
SMALL = {
    "convnet": Size(CONVNET, 16, 16, 64, 6),
    "resnet50": Size(RESNET, 32, 8, 32, 4),
    "dense": Size(DENSE.replace("WIDTH", "256"), 8, 32, 64, 6),
}
WARM_STEPS = 3

# By name: Keras's policy, whether matrix products may use TF32, and the type of the ceiling's.
PRECISIONS = {
    "fp32": ("float32", False, tf.float32),
    "tf32": ("float32", True, tf.float32),
    "bf16": ("mixed_bfloat16", False, tf.bfloat16),
    "fp16": ("mixed_float16", False, tf.float16),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=LARGE, default=list(LARGE), metavar="MODEL")
    parser.add_argument("--small", action="store_true", help="to see that it works")
    parser.add_argument("--table", type=Path, help="write a Markdown table there")
    arguments = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    device = tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else "CPU"
    if not gpus:
        note = "no GPU: run on the CPU, small; this shows that it works and is no figure"
        print(json.dumps({"name": "note", "text": note}), flush=True)
    is_small = arguments.small or not gpus
    sizes = {name: (SMALL if is_small else LARGE)[name] for name in arguments.only}
    rounds = arguments.rounds if gpus else 1
    with tempfile.TemporaryDirectory() as folder:
        found = list(measure_all(Path(folder), sizes, rounds, is_small))
    if arguments.table is not None and gpus:
        arguments.table.write_text(table(device, found))


def measure_all(
    folder: Path, sizes: dict[str, Size], rounds: int, is_small: bool
) -> Iterator[dict[str, Any]]:
    """Yield a line for each model, precision and XLA on or off; print it too."""
    make_run = training_runs(folder)
    ceilings = {name: ceiling(name, is_small) for name in PRECISIONS}
    for model, size in sizes.items():
        made = data_set(make_run, size)
        for precision in PRECISIONS:
            for is_compiled in (False, True):
                line = measure(made, size, Trial(precision, is_compiled), rounds)
                line["ceiling_tflops"] = round(ceilings[precision] / 1e12, 3)
                line["ceiling_ratio"] = round(line.pop("flops_per_second") / ceilings[precision], 4)
                line = {"name": f"{model}_{precision}{'_xla' if is_compiled else ''}", **line}
                print(json.dumps(line), flush=True)
                yield line


def data_set(make_run: Callable[..., Any], size: Size) -> Any:
    """Write the shards of one model's trials, and its code."""
    return make_run(
        model=MODEL + size.code,
        overrides={"train.batch_size": size.batch},
        pipeline=PIPELINE.format(side=size.side),
        spec={"image": tf.io.FixedLenFeature([size.side, size.side, 3], tf.float32)},
        rows=lambda split: _rows(size, split),
    )


def measure(made: Any, size: Size, trial: Trial, rounds: int) -> dict[str, Any]:
    """Return medians of a step's milliseconds, examples/s and the share that waits for input."""
    policy, uses_tf32, _ = PRECISIONS[trial.precision]
    tf.config.experimental.enable_tensor_float_32_execution(uses_tf32)
    changes = {"precision": policy, "jit_compile": trial.is_compiled}
    train = made.config.train.model_copy(update=changes)
    config = made.config.model_copy(update={"train": train})
    source = example_source(made.run, config, made.record, "train")
    strategy = open_strategy(train, Alone())
    learner = make_learner(config, made.run.frozen_pipeline, made.graph, strategy)
    step = step_function(learner, size.batch)
    order = Order(size.batch, seed=1, lanes=plan_lanes(size.batch, len(source.shards), 1))
    batches = iter(open_feed(source, order).batches())
    for _ in range(WARM_STEPS):
        float(step(batches)["loss"])
    times, waits = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        figures = [step(batches) for _ in range(size.steps)]
        float(figures[-1]["loss"])  # waits for the device
        seconds = time.perf_counter() - started
        times.append(seconds / size.steps)
        waits.append(sum(float(f["input_seconds"]) for f in figures) / seconds)
    seconds = statistics.median(times)
    return {
        "step_ms": round(1e3 * seconds, 3),
        "examples_per_second": round(size.batch / seconds, 1),
        "input_wait_ratio": round(statistics.median(waits), 4),
        "flops_per_second": 3 * _forward_flops(learner, size) / seconds,
    }


def ceiling(precision: str, is_small: bool) -> float:
    """Return floating-point operations a second of a large square matrix product."""
    tf.config.experimental.enable_tensor_float_32_execution(PRECISIONS[precision][1])
    side = 512 if is_small else 8192
    left = tf.cast(tf.random.normal([side, side]), PRECISIONS[precision][2])

    @tf.function
    def products() -> tf.Tensor:
        found = left
        for _ in range(8):
            found = tf.linalg.matmul(found, left) * tf.cast(0.01, left.dtype)
        return tf.reduce_sum(tf.cast(found, tf.float32))

    float(products())
    times = []
    for _ in range(5):
        started = time.perf_counter()
        float(products())
        times.append(time.perf_counter() - started)
    return 8 * 2 * side**3 / statistics.median(times)


def table(device: str, lines: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    rows = [
        f"| {line['name']} | {line['step_ms']} | {line['examples_per_second']} | "
        f"{line['input_wait_ratio']} | {line['ceiling_tflops']} | {line['ceiling_ratio']} |"
        for line in lines
    ]
    head = "| trial | step, ms | examples/s | input wait | ceiling, TFLOP/s | share of ceiling |"
    rule = "|---|---|---|---|---|---|"
    return (
        "\n".join([f"Device: {device}, TensorFlow {tf.__version__}.\n", head, rule, *rows]) + "\n"
    )


def _forward_flops(learner: Learner, size: Size) -> float:
    """Count the forward pass's floating-point operations, from its graph."""
    from components.models.tensorflow_internals import convert_variables_to_constants_v2

    shape = [size.batch, size.side, size.side, 3]
    forward = tf.function(
        lambda image: head_outputs(learner.model, learner.config, {"image": image}, training=False)
    ).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    frozen = convert_variables_to_constants_v2(forward)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
        options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        options["output"] = "none"
        counted = tf.compat.v1.profiler.profile(graph=graph, options=options)
    return float(counted.total_float_ops)


def _rows(size: Size, split: str) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    count = size.rows if split == "train" else 4
    return [
        {
            "image": random.uniform(size=size.side * size.side * 3).tolist(),
            "label:kind": number % 4,
            "example_id": str(number),
        }
        for number in range(count)
    ]


if __name__ == "__main__":
    main()
