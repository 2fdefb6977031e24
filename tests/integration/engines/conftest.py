"""Two SavedModels: numbers only (trained on digits), and everything that needs TensorFlow."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from components.optimize.engines.core import Core
from components.optimize.engines.kinds import KINDS, make
from contract.clients.http import open_client
from contract.places import CODE_FOLDER
from contract.records.optimization import ServedEngine
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

CLASSES = tuple(str(digit) for digit in range(10))
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Model:
    """A SavedModel with rows for it, `[rows, ...]` by input, and what its package says of it."""

    path: Path
    rows: dict[str, np.ndarray]
    inputs: dict[str, InputSpec]
    heads: dict[str, HeadConfig]
    labels: np.ndarray | None = None

    def answers(self) -> dict[str, np.ndarray]:
        """Return TensorFlow's own answers to all rows: a second implementation."""
        signature = tf.saved_model.load(str(self.path)).signatures[SIGNATURE]
        found = signature(**{name: tf.constant(value) for name, value in self.rows.items()})
        return {name: value.numpy() for name, value in found.items()}

    def instances(self, count: int) -> list[dict[str, Any]]:
        """Return the first rows as callers send them: lists without padding."""
        return [{n: self._value(n, row) for n in self.rows} for row in range(count)]

    def _value(self, name: str, row: int) -> Any:
        if self.inputs[name].is_variable_length:
            return [item.decode() for item in self.rows[name][row] if item]
        value = self.rows[name][row : row + 1].tolist()[0]
        return value.decode() if isinstance(value, bytes) else value


def image_features(examples: tf.Tensor) -> tf.Tensor:
    feature = {"image": tf.io.FixedLenFeature([8, 8], tf.float32)}
    return tf.io.parse_example(examples, feature)["image"]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A dense net on scikit-learn's digits, trained for a few epochs; half of the rows are test."""
    data = load_digits()
    images, labels = data.images.astype(np.float32), data.target
    keras.utils.set_random_seed(7)
    layers = keras.layers
    inputs = keras.Input((8, 8))
    hidden = layers.Dense(64, "relu")(layers.Flatten()(layers.Rescaling(1 / 16)(inputs)))
    model = keras.Model(inputs, layers.Dense(10, "softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[900:], labels[900:], epochs=15, verbose=0)
    module, path = tf.Module(), tmp_path_factory.mktemp("digits") / "model"
    module.model = model
    answer = tf.function(lambda image: {"scores": model(image, training=False)}, autograph=False)
    parsed = tf.function(lambda examples: answer(image_features(examples)), autograph=False)
    signatures = {
        SIGNATURE: answer.get_concrete_function(
            image=tf.TensorSpec([None, 8, 8], tf.float32, "image")
        ),
        "serving_examples": parsed.get_concrete_function(
            examples=tf.TensorSpec([None], tf.string, "examples")
        ),
    }
    tf.saved_model.save(module, str(path), signatures)
    head = HeadConfig(task="multiclass_classification", classes=CLASSES)
    inputs_of = {"image": InputSpec(dtype="float32", shape=(8, 8))}
    return Model(path, {"image": images[:900]}, inputs_of, {"digit": head}, labels[:900])


class Parcels(tf.Module):
    """A vocabulary, a list of words, numbers and a counter; two heads: wide and deep."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        kind, random = tf.lookup.TextFileIndex, np.random.default_rng(3)
        initializer = tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, kind.WHOLE_LINE, tf.int64, kind.LINE_NUMBER
        )
        self.table = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
        self.vectors = tf.Variable(random.normal(size=(4, 8)).astype("f4"))
        self.wide = tf.Variable(random.normal(size=(4, 1)).astype("f4"))
        self.hidden = tf.Variable(random.normal(0, 0.3, (18, 32)).astype("f4"))
        self.colours = tf.Variable(random.normal(0, 0.3, (32, 3)).astype("f4"))
        self.price = tf.Variable(random.normal(0, 0.3, (32, 1)).astype("f4"))

    @tf.function(autograph=False)
    def __call__(self, colour: Any, stamps: Any, weight: Any, count: Any) -> dict[str, Any]:
        colour_id = self.table.lookup(colour)
        words = tf.ragged.boolean_mask(stamps, tf.not_equal(stamps, ""))
        ids = tf.ragged.map_flat_values(lambda w: self.table.lookup(w) + 1, words).to_tensor()
        is_word = tf.expand_dims(tf.cast(tf.not_equal(ids, 0), tf.float32), -1)
        stamped = tf.gather(self.vectors, tf.maximum(ids - 1, 0)) * is_word
        numbers = [(weight - 3.0) / 2.0, tf.cast(count, tf.float32)]
        columns = [tf.gather(self.vectors, colour_id), tf.reduce_sum(stamped, axis=1)]
        joined = tf.concat([*columns, *(tf.expand_dims(n, -1) for n in numbers)], 1)
        deep = tf.nn.relu(joined @ self.hidden)
        wide = tf.gather(self.wide, colour_id)
        return {
            "kind_scores": tf.nn.softmax(deep @ self.colours + wide),
            "price_value": tf.squeeze(deep @ self.price + wide, -1),
        }


@pytest.fixture(scope="session")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder, random = tmp_path_factory.mktemp("parcels"), np.random.default_rng(5)
    (folder / "vocabulary.txt").write_text("red\ngreen\nblue\n")
    module = Parcels(folder / "vocabulary.txt")
    specs = {
        "colour": tf.TensorSpec([None], tf.string, "colour"),
        "stamps": tf.TensorSpec([None, None], tf.string, "stamps"),
        "weight": tf.TensorSpec([None], tf.float32, "weight"),
        "count": tf.TensorSpec([None], tf.int64, "count"),
    }
    function = module.__call__.get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder / "model"), {SIGNATURE: function})
    (folder / "vocabulary.txt").unlink()  # it must live on in the assets
    words = np.array([b"", b"red", b"blue", b"pink"], object)
    rows = {
        "colour": random.choice(words[1:], 64),
        "stamps": random.choice(words, (64, 5)),
        "weight": random.normal(3, 2, 64).astype("f4"),
        "count": random.integers(0, 5, 64),
    }
    inputs = {
        "colour": InputSpec(dtype="string"),
        "stamps": InputSpec(dtype="string", is_variable_length=True),
        "weight": InputSpec(dtype="float32"),
        "count": InputSpec(dtype="int64"),
    }
    heads = {
        "kind": HeadConfig(task="multiclass_classification", classes=("a", "b", "c")),
        "price": HeadConfig(task="regression"),
    }
    return Model(folder / "model", rows, inputs, heads)


# --- packages and servers -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def cores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], Core]:
    """Cuts a model once, whoever asks."""
    made: dict[Path, Core] = {}

    def cut(model: Model) -> Core:
        if model.path not in made:
            rows = {name: value[:64] for name, value in model.rows.items()}
            made[model.path] = Core.of(model.path, rows, tmp_path_factory.mktemp("core"))
        return made[model.path]

    return cut


@pytest.fixture(scope="session")
def packaged(
    cores: Callable[[Model], Core], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Packages a model for an engine, without a trial; the engine's files are made once."""
    made: dict[tuple[Path, str], Path] = {}

    def engine_of(model: Model, engine: str) -> Path:
        if (model.path, engine) not in made:
            folder = made[model.path, engine] = tmp_path_factory.mktemp("engine")
            make(cores(model), KINDS[engine], folder)
        return made[model.path, engine]

    def pack(model: Model, engine: str, **serve: Any) -> Path:
        folder = tmp_path_factory.mktemp("package")
        (folder / "model").symlink_to(model.path)
        shutil.copytree(engine_of(model, engine), folder / "engine")
        digest = digest_directory(folder / "engine")
        PackageManifest(
            pipeline="tried",
            version=1,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            digest=digest_directory(model.path),
            inputs=model.inputs,
            heads=model.heads,
            serve=ServeConfig(**serve),
            engine=ServedEngine(name=engine, path="engine", digest=digest),
            provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
        ).write(folder / "package.json")
        return folder

    return pack


@dataclass
class Server:
    """A model server in a process of its own."""

    process: "subprocess.Popen[str]"
    log: Path
    url: str = ""

    def wait(self) -> None:
        for _ in range(1200):
            if found := re.search(r"at (http://[\d.]+:\d+)/v1", self.log.read_text()):
                self.url = found.group(1)
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def predict(self, instances: list[Any], **body: Any) -> tuple[int, Any]:
        """Return the status, and the predictions or the error."""
        content = json.dumps({"instances": instances, **body})
        with open_client(self.url, 60.0) as http:
            answer = http.post("/v1/models/tried:predict", content=content)
        found = answer.json()
        return answer.status_code, found["predictions" if answer.is_success else "error"]

    @property
    def has_tensorflow(self) -> bool:
        """Whether the process has loaded TensorFlow's library."""
        return "libtensorflow" in Path(f"/proc/{self.process.pid}/maps").read_text()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[Path], Server]]:
    """Start servers on packages; they are killed at the end."""
    servers: list[Server] = []

    def begin(package: Path) -> Server:
        log = tmp_path / f"server-{len(servers)}.log"
        command = [sys.executable, "-m", "serving.server", "--package", str(package)]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "--port", "0"], cwd=CODE_FOLDER, stdout=output, stderr=output,
                text=True, env=os.environ,
            )  # fmt: skip
        servers.append(Server(process, log))
        servers[-1].wait()
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.wait()
