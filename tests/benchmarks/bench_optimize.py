"""What the optimiser and its runtimes make of five models, beside what others make of them.

Prints JSON lines {name, ours, peer, limit, ratio, unit}. All runtimes of a model run in this one
process, in turns, one thread each, and each figure is the median of `--rounds` rounds; `ratio` is
how many times as fast as the plain SavedModel (by CPU time; `wall_ratio` by the clock). Names of
`ours` are the optimised SavedModel for the server's own runtimes. Peers: the graph only frozen,
ONNX Runtime on tf2onnx's model, with its own quantiser for int8, OpenVINO with NNCF and the LiteRT
converter, both straight from the plain SavedModel.

The models: MobileNetV2 and ResNet50 of keras.applications with random weights whose batch-norm
statistics come from one forward pass over made-up images (untrained nets would otherwise have
statistics of 0 and 1, which no trained net has); a convnet trained on MNIST and a wide-and-deep
net trained on census, where ../shared/data has them; an MLP trained on scikit-learn's digits.

    python tests/benchmarks/bench_optimize.py [--models mlp,mnist] [--rounds 5]
"""

import argparse
import contextlib
import functools
import gzip
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
os.environ |= {"OMP_NUM_THREADS": "1"}

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from components.optimize.calibration import observe  # noqa: E402
from components.optimize.graphs import GraphModel  # noqa: E402
from components.optimize.judgement import Evaluation  # noqa: E402
from components.optimize.optimize import Data, optimize  # noqa: E402
from components.optimize.runtimes.core import Core  # noqa: E402
from components.optimize.runtimes.runtimes import KINDS, make  # noqa: E402
from contract.schema.optimize import OptimizeConfig  # noqa: E402
from contract.storage import size_bytes  # noqa: E402
from serving.server.engine import threads_per_call  # noqa: E402
from serving.server.opening import open_runtime  # noqa: E402

SIGNATURE = "serving_default"
DATA = ROOT.parent / "shared" / "data"
BATCHES = (1, 32)
SECONDS_A_TURN = 0.2
MAX_CALIBRATION_SECONDS = 300
FLOAT_PASSES = (
    "freeze_graph", "strip_unused_nodes", "fold_constants", "remove_nodes", "fold_batch_norms",
    "merge_duplicate_nodes", "grappler",
)  # fmt: skip

Call = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Subject:
    """A SavedModel, rows to calibrate and time it with, and labelled rows if it was trained."""

    path: Path
    rows: dict[str, np.ndarray]
    tests: dict[str, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray | None = None


# --- the models ---------------------------------------------------------------------------------


def save(model: keras.Model, path: Path, name: str) -> Path:
    """Save a Keras model of one input with its softmax, free batch size."""
    module = tf.Module()
    module.model = model
    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32, name)
    call = tf.function(lambda **x: {"scores": model(x[name], training=False)}, autograph=False)
    signatures = {SIGNATURE: call.get_concrete_function(**{name: spec})}
    tf.saved_model.save(module, str(path), signatures)
    return path


def application(build: Callable[..., keras.Model], folder: Path) -> Subject:
    """Return a large convnet whose batch norms have seen made-up images."""
    keras.utils.set_random_seed(1)
    model = build(weights=None, input_shape=(224, 224, 3))
    images = made_up_images(32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the statistics become those of the one batch that is seen
    model(images[:16], training=True)
    return Subject(save(model, folder / "plain", "image"), {"image": images})


def made_up_images(rows: int) -> np.ndarray:
    """Return smooth coloured noise in [-1, 1], float32 `[rows, 224, 224, 3]`."""
    coarse = np.random.default_rng(2).uniform(-1, 1, (rows, 14, 14, 3)).astype("f4")
    return np.asarray(tf.image.resize(coarse, (224, 224), "bicubic").numpy()).clip(-1, 1)


def mobilenet(folder: Path) -> Subject:
    return application(keras.applications.MobileNetV2, folder)


def resnet50(folder: Path) -> Subject:
    return application(keras.applications.ResNet50, folder)


def mnist(folder: Path) -> Subject | None:
    """Return the convnet of the shipped pipeline, trained for one epoch."""
    if not (DATA / "mnist").is_dir():
        return None
    images, labels = read_mnist("train")
    tests, truth = read_mnist("t10k")
    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = inputs = keras.Input((28, 28))
    x = layers.Reshape((28, 28, 1))(layers.Rescaling(1 / 255)(x))
    for filters in (32, 64):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, use_bias=False)(x))
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))
    x = layers.Dense(128, "relu")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(10, "softmax")(layers.Dropout(0.4)(x)))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:30_000].astype("f4"), labels[:30_000], 128, verbose=0)
    path = save(model, folder / "plain", "image")
    rows = images[-256:].astype("f4")
    return Subject(path, {"image": rows}, {"image": tests[:4000].astype("f4")}, truth[:4000])


def read_mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 `[rows, 28, 28]` and labels; IDX headers have 16 and 8 bytes."""
    with gzip.open(DATA / "mnist" / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(DATA / "mnist" / f"{part}-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)


def mlp(folder: Path) -> Subject:
    """Return a dense net 64→512→512→10, trained on half of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = data.data.astype("f4"), data.target
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = keras.Input((64,))
    x = layers.Dense(512, "relu")(layers.Rescaling(1 / 16)(inputs))
    model = keras.Model(inputs, layers.Dense(10, "softmax")(layers.Dense(512, "relu")(x)))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[900:], labels[900:], epochs=12, verbose=0)
    path = save(model, folder / "plain", "image")
    return Subject(path, {"image": images[900:1156]}, {"image": images[:900]}, labels[:900])


NUMBERS, LABEL = (0, 4, 10, 11, 12), 14  # columns of the census files


def wide_deep(folder: Path) -> Subject | None:
    """Return a wide-and-deep net on census: nine vocabularies, five numbers, two classes."""
    import csv

    def read(name: str) -> list[list[str]]:
        with (DATA / "census" / name).open() as file:
            return [row for row in csv.reader(file, skipinitialspace=True) if len(row) == 15]

    if not (DATA / "census").is_dir():
        return None
    train, test = read("adult.train.csv"), read("adult.test.csv")
    words = [column for column in range(14) if column not in (*NUMBERS, 2)]
    vocabularies = {column: sorted({row[column] for row in train}) for column in words}
    numbers = np.log1p(np.array([[float(r[c]) for c in NUMBERS] for r in train], "f4"))
    network = wide_deep_network({c: len(v) for c, v in vocabularies.items()}, numbers)
    known = {c: {word: i for i, word in enumerate(v)} for c, v in vocabularies.items()}
    inputs = [np.array([known[c][row[c]] for row in train]) for c in words]
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit([*inputs, numbers], labels_of(train), 256, epochs=2, verbose=0)
    save_wide_deep(network, vocabularies, folder)
    return Subject(folder / "plain", raw(train[-256:], words), raw(test, words), labels_of(test))


def labels_of(rows: list[list[str]]) -> np.ndarray:
    return np.array([row[LABEL].startswith(">") for row in rows]).astype(np.int64)


def raw(rows: list[list[str]], words: list[int]) -> dict[str, np.ndarray]:
    """Return rows as callers send them."""
    columns: dict[str, np.ndarray] = {
        f"word_{c}": np.array([row[c].encode() for row in rows], object) for c in words
    }
    return columns | {"numbers": np.array([[float(r[c]) for c in NUMBERS] for r in rows], "f4")}


def wide_deep_network(sizes: Mapping[int, int], numbers: np.ndarray) -> keras.Model:
    """Return a net of the ids of each vocabulary (one more for unknown words) and the numbers."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    ids = [keras.Input((), dtype="int64", name=f"id_{column}") for column in sizes]
    dense = keras.Input((len(NUMBERS),), name="numbers")
    scaled = layers.Normalization(mean=numbers.mean(0), variance=numbers.var(0))(dense)
    limits = [size + 1 for size in sizes.values()]
    wide = layers.Add()([layers.Embedding(n, 2)(i) for n, i in zip(limits, ids, strict=True)])
    embedded = [layers.Embedding(n, 16)(i) for n, i in zip(limits, ids, strict=True)]
    deep = layers.Concatenate()([*embedded, scaled])
    for units in (256, 128):
        deep = layers.Dense(units, "relu")(deep)
    scores = layers.Softmax()(layers.Add()([wide, layers.Dense(2)(deep)]))
    return keras.Model([*ids, dense], scores)


def save_wide_deep(
    network: keras.Model, vocabularies: Mapping[int, list[str]], folder: Path
) -> None:
    """Save the net behind its vocabularies: words and numbers to scores."""
    module, kind = tf.Module(), tf.lookup.TextFileIndex
    module.network, module.tables = network, []
    for column, vocabulary in vocabularies.items():
        file = folder / f"vocabulary_{column}.txt"
        file.write_text("\n".join(vocabulary) + "\n")
        initializer = tf.lookup.TextFileInitializer(
            str(file), tf.string, kind.WHOLE_LINE, tf.int64, kind.LINE_NUMBER
        )
        module.tables.append(tf.lookup.StaticVocabularyTable(initializer, 1))

    def call(**inputs: Any) -> dict[str, Any]:
        columns = zip(vocabularies, module.tables, strict=True)
        ids = [table.lookup(inputs[f"word_{column}"]) for column, table in columns]
        numbers = tf.math.log1p(inputs["numbers"])
        return {"scores": network([*ids, numbers], training=False)}

    specs = {f"word_{c}": tf.TensorSpec([None], tf.string, f"word_{c}") for c in vocabularies}
    specs["numbers"] = tf.TensorSpec([None, len(NUMBERS)], tf.float32, "numbers")
    function = tf.function(call, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder / "plain"), {SIGNATURE: function})


MODELS: dict[str, Callable[[Path], Subject | None]] = {
    "mobilenet": mobilenet,
    "resnet50": resnet50,
    "mnist": mnist,
    "mlp": mlp,
    "wide_deep": wide_deep,
}


# --- what is made of them -----------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """One variant: how to call it, how large it is, and what making it took."""

    call: Call
    size_bytes: int
    cpu_seconds: float


class Maker:
    """Makes all variants of one model; one that cannot be made is reported and left out."""

    def __init__(self, name: str, subject: Subject, folder: Path) -> None:
        self.name, self.subject, self.folder = name, subject, folder
        self.made: dict[str, Made] = {}

    def all(self) -> dict[str, Made]:
        plain, optimized = self.subject.path, self.folder / "optimized" / "model"
        self._add("tensorflow_plain", plain, lambda: None)
        self._add("tensorflow_frozen", self.folder / "frozen", self._freeze)
        self._add("ours_tensorflow", optimized, lambda: self._optimize("optimized", FLOAT_PASSES))
        with_int8 = (*FLOAT_PASSES, "quantize_weights")
        int8 = self.folder / "int8" / "model"
        self._add("ours_tensorflow_int8_weights", int8, lambda: self._optimize("int8", with_int8))
        self._cores(
            optimized,
            "ours",
            ("openvino", "openvino_bf16", "openvino_int8", "litert", "litert_int8"),
        )
        self._cores(plain, "peer", ("openvino_int8", "litert", "litert_int8"))
        self._onnx()
        return self.made

    def rounded_ratio(self, num_steps: int) -> float:
        """Return the compressed size after `round_weights` over the plain SavedModel's size."""
        name, rounding = f"rounded_{num_steps}", {"round_weights": {"num_steps": num_steps}}
        self._optimize(name, ("freeze_graph", "fold_batch_norms", rounding))
        files = sorted(p for p in (self.folder / name / "model").rglob("*") if p.is_file())
        compressed = zlib.compress(b"".join(p.read_bytes() for p in files), 9)
        return len(compressed) / size_bytes(self.subject.path)

    def _freeze(self) -> None:
        frozen = GraphModel.lift(self.subject.path).rewritten(lambda signature: signature.frozen())
        frozen.save(self.folder / "frozen")

    def _optimize(self, name: str, passes: tuple[Any, ...]) -> None:
        samples = {SIGNATURE: self.subject.rows}
        data = Data(samples, Evaluation(SIGNATURE, self.subject.rows))
        settings = {"passes": passes, "min_gain_ratio": 0.0, "budget_percent": 100.0}
        optimize(self.subject.path, data, OptimizeConfig(**settings), self.folder / name)

    def _cores(self, model: Path, whose: str, names: tuple[str, ...]) -> None:
        parts = self.folder / f"{whose}_parts"
        parts.mkdir()
        rows = {n: v[:64] for n, v in self.subject.rows.items()}
        core = Core.of(model, rows, parts)
        for name in names:
            folder = self.folder / f"{whose}_{name}"

            def create(name: str = name, folder: Path = folder) -> None:
                folder.mkdir()
                make(core, KINDS[name], folder)

            self._add(f"{whose}_{name}", folder, create, is_core=True)

    def _add(
        self, name: str, path: Path, create: Callable[[], None], is_core: bool = False
    ) -> None:
        started = time.process_time()
        model, other = (self.subject.path, path) if is_core else (path, None)
        try:
            with quiet():
                create()
                runtime = open_runtime(model, other, {}, 1)
            seconds = time.process_time() - started
            call = functools.partial(runtime.call, SIGNATURE)
            call({n: v[:2] for n, v in self.subject.rows.items()})
            self.made[name] = Made(call, size_bytes(path), seconds)
        except Exception as error:  # noqa: BLE001 (a variant that fails is a finding)
            self._left_out(name, error)

    def _onnx(self) -> None:
        """Add ONNX Runtime, float32 and int8; tf2onnx takes no strings."""
        started = time.process_time()
        try:
            with quiet():
                float_file, int8_file = onnx_files(self.subject, self.folder)
            for name, file in (("float32", float_file), ("int8", int8_file)):
                seconds = time.process_time() - started
                self.made[f"peer_onnxruntime_{name}"] = Made(
                    onnx_call(file), file.stat().st_size, seconds
                )
        except Exception as error:  # noqa: BLE001 (as above)
            self._left_out("peer_onnxruntime", error)

    def _left_out(self, name: str, error: Exception) -> None:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        print(
            json.dumps({"name": f"optimize_{self.name}_{name}", "left_out": said[:200]}), flush=True
        )


def onnx_files(subject: Subject, folder: Path) -> tuple[Path, Path]:
    """Convert the plain SavedModel and quantise it as ONNX Runtime's documentation says."""
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = GraphModel.lift(subject.path).signatures[SIGNATURE].frozen()
    if any(spec.dtype == tf.string for _, spec in graph.inputs.values()):
        raise ValueError("tf2onnx has no lookup tables of text")
    model, _ = tf2onnx.convert.from_graph_def(
        graph.graph_def, input_names=[t for t, _ in graph.inputs.values()],
        output_names=[t for t, _ in graph.outputs.values()], opset=17,
    )  # fmt: skip
    plain, prepared, quantized = (folder / f"{n}.onnx" for n in ("plain", "prepared", "int8"))
    plain.write_bytes(model.SerializeToString())
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            (tensor, _), (rows,) = next(iter(graph.inputs.values())), subject.rows.values()
            self.feeds = iter([{tensor: rows[i : i + 1]} for i in range(64)][: len(rows)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    quantize_static(str(prepared), str(quantized), Reader(), QuantFormat.QDQ, per_channel=True)
    return plain, quantized


def onnx_call(file: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    return lambda inputs: {"scores": session.run(None, {name: next(iter(inputs.values()))})[0]}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep converters from printing between the JSON lines."""
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink):
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


# --- measuring ----------------------------------------------------------------------------------


def timed(call: Call, batch: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return CPU and wall milliseconds of a call, over at least one and 0.2 s of them."""
    calls, cpu, wall = 0, time.process_time(), time.perf_counter()
    while not calls or time.perf_counter() - wall < SECONDS_A_TURN:
        call(batch)
        calls += 1
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return spent[0] * 1000 / calls, spent[1] * 1000 / calls


def rounds(
    made: Mapping[str, Made], subject: Subject, count: int
) -> dict[tuple[str, int], tuple[float, float]]:
    """Return median CPU and wall milliseconds by variant and batch; variants take turns."""
    seen: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(count):
        for rows in BATCHES:
            batch = {n: v[np.arange(rows) % len(v)] for n, v in subject.rows.items()}
            for name, variant in made.items():
                seen.setdefault((name, rows), []).append(timed(variant.call, batch))
    return {
        key: (statistics.median(c for c, _ in values), statistics.median(w for _, w in values))
        for key, values in seen.items()
    }


def accuracy(call: Call, subject: Subject) -> float:
    """Return the accuracy in percent on the labelled rows."""
    assert subject.labels is not None
    answers = [
        call({n: v[start : start + 100] for n, v in subject.tests.items()})["scores"]
        for start in range(0, len(subject.labels), 100)
    ]
    return float(100 * np.mean(np.concatenate(answers).argmax(1) == subject.labels))


def report(name: str, maker: Maker, count: int) -> None:
    """Print the figures of one model."""
    subject, made = maker.subject, maker.made
    times = rounds(made, subject, count)
    plain_bytes = made["tensorflow_plain"].size_bytes
    plain_accuracy = None
    for variant, one in made.items():
        for rows in BATCHES:
            (cpu, wall), base = times[variant, rows], times["tensorflow_plain", rows]
            say(f"{name}_{variant}_batch_{rows}", cpu, base[0], base[0] / cpu, "CPU-ms/call",
                wall_ms=round(wall, 3), wall_ratio=round(base[1] / wall, 2))  # fmt: skip
        say(f"{name}_{variant}_size", one.size_bytes / 2**20, plain_bytes / 2**20,
            one.size_bytes / plain_bytes, "MiB")  # fmt: skip
        say(f"{name}_{variant}_making", one.cpu_seconds, None, None, "CPU-s")
        if subject.labels is not None:
            found = accuracy(one.call, subject)
            plain_accuracy = found if plain_accuracy is None else plain_accuracy
            say(f"{name}_{variant}_accuracy", found, plain_accuracy, None, "%",
                points_lost=round(plain_accuracy - found, 2))  # fmt: skip


def say(
    name: str, ours: float, peer: float | None, ratio: float | None, unit: str, **more: float
) -> None:
    line: dict[str, Any] = {"name": f"optimize_{name}", "ours": round(ours, 4)}
    line |= {"peer": None if peer is None else round(peer, 4), "limit": None}
    line["ratio"] = None if ratio is None else round(ratio, 3)
    print(json.dumps(line | {"unit": unit, **more}), flush=True)


def measure_calibration(rows: int) -> None:
    """Time the activation ranges of MobileNetV2 by `kl` over many rows, on all cores."""
    with tempfile.TemporaryDirectory() as place, quiet():
        subject = mobilenet(Path(place))
        model = GraphModel.lift(subject.path).rewritten(lambda signature: signature.frozen())
        images = np.concatenate([subject.rows["image"]] * -(-rows // 32))[:rows]
        began, cpu = time.perf_counter(), time.process_time()
        ranges = [values.range("kl") for values in observe(model, {SIGNATURE: {"image": images}})]
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    line = {"name": f"optimize_calibration_{rows}_rows", "ours": round(wall, 2), "peer": None}
    line |= {"limit": MAX_CALIBRATION_SECONDS, "ratio": round(wall / MAX_CALIBRATION_SECONDS, 3)}
    print(json.dumps(line | {"unit": "s", "cpu_s": round(cpu, 2), "layers": len(ranges)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="which, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calibrate", type=int, metavar="ROWS", help="time calibration only")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    if given.calibrate:
        return measure_calibration(given.calibrate)
    if "mobilenet" in given.models:
        subprocess.run([sys.executable, __file__, "--calibrate", "1000"], check=True)
    # Before anything is computed, and as a server does it.
    tf.config.threading.set_intra_op_parallelism_threads(threads_per_call())
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for name in given.models.split(","):
        with tempfile.TemporaryDirectory() as place:
            with quiet():
                subject = MODELS[name](Path(place))
            if subject is None:
                print(json.dumps({"name": f"optimize_{name}", "left_out": f"no data at {DATA}"}))
                continue
            maker = Maker(name, subject, Path(place))
            maker.all()
            report(name, maker, given.rounds)
            for num_steps in (256, 64):
                with quiet():
                    ratio = maker.rounded_ratio(num_steps)
                unit = "of the plain SavedModel"
                say(f"{name}_rounded_to_{num_steps}_compressed", ratio, None, ratio, unit)
    return None


if __name__ == "__main__":
    main()
