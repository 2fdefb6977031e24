"""The models that `bench_optimize.py` optimises.

MobileNetV2 and ResNet50 of keras.applications with random weights whose batch-norm statistics come
from one forward pass over made-up images (untrained nets would otherwise have statistics of 0 and
1, which no trained net has); a convnet trained on MNIST and a wide-and-deep net trained on census,
where ../shared/data has them; an MLP trained on scikit-learn's digits.
"""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

SIGNATURE = "serving_default"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Subject:
    """A SavedModel, rows to calibrate and time it with, and labelled rows if it was trained.

    `tolerance` is what float passes may move its outputs by, relative: fifty layers round more.
    """

    path: Path
    rows: dict[str, np.ndarray]
    tests: dict[str, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray | None = None
    tolerance: float = 1e-5


def save(model: keras.Model, path: Path, name: str) -> Path:
    """Save a Keras model of one input with its softmax, free batch size."""
    module = tf.Module()
    module.model = model
    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32, name)
    call = tf.function(lambda **x: {"scores": model(x[name], training=False)}, autograph=False)
    signatures = {SIGNATURE: call.get_concrete_function(**{name: spec})}
    tf.saved_model.save(module, str(path), signatures)
    return path


def application(
    build: Callable[..., keras.Model], folder: Path, tolerance: float = 1e-5
) -> Subject:
    """Return a large convnet whose batch norms have seen made-up images."""
    keras.utils.set_random_seed(1)
    model = build(weights=None, input_shape=(224, 224, 3))
    images = made_up_images(32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the statistics become those of the one batch that is seen
    model(images[:16], training=True)
    return Subject(save(model, folder / "plain", "image"), {"image": images}, tolerance=tolerance)


def made_up_images(rows: int) -> np.ndarray:
    """Return smooth coloured noise in [-1, 1], float32 `[rows, 224, 224, 3]`."""
    coarse = np.random.default_rng(2).uniform(-1, 1, (rows, 14, 14, 3)).astype("f4")
    return np.asarray(tf.image.resize(coarse, (224, 224), "bicubic").numpy()).clip(-1, 1)


def mobilenet(folder: Path) -> Subject:
    return application(keras.applications.MobileNetV2, folder)


def resnet50(folder: Path) -> Subject:
    return application(keras.applications.ResNet50, folder, tolerance=1e-4)


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
