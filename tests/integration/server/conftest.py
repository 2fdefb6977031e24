"""Small real SavedModels, packaged, and servers as processes."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.clients.http import open_client
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

ROOT = Path(__file__).resolve().parents[3]
CLASSES = tuple(str(digit) for digit in range(10))


def save_digits(path: Path) -> None:
    """Save an MLP 64→128→10 with `serving_default` and `serving_examples`."""
    import tensorflow as tf

    generator = np.random.default_rng(7)

    class Digits(tf.Module):
        def __init__(self) -> None:
            self.hidden = tf.Variable(generator.normal(0, 0.3, (64, 128)).astype(np.float32))
            self.out = tf.Variable(generator.normal(0, 0.3, (128, 10)).astype(np.float32))

        @tf.function
        def default(self, image: Any) -> dict[str, Any]:
            return {"scores": tf.nn.softmax(tf.nn.relu(image @ self.hidden) @ self.out)}

        @tf.function
        def examples(self, examples: Any) -> dict[str, Any]:
            feature = {"image": tf.io.FixedLenFeature([64], tf.float32)}
            return self.default(tf.io.parse_example(examples, feature)["image"])

    module = Digits()
    signatures = {
        "serving_default": module.default.get_concrete_function(
            image=tf.TensorSpec([None, 64], tf.float32, name="image")
        ),
        "serving_examples": module.examples.get_concrete_function(
            examples=tf.TensorSpec([None], tf.string, name="examples")
        ),
    }
    tf.saved_model.save(module, str(path), signatures=signatures)


def save_words(path: Path) -> None:
    """Save a regression that counts its words and ids, not counting the padding."""
    import tensorflow as tf

    least = InputSpec(dtype="int64").padding

    class Words(tf.Module):
        @tf.function
        def default(self, words: Any, ids: Any, scale: Any) -> dict[str, Any]:
            found = tf.reduce_sum(tf.cast(words != "", tf.float32), axis=1)
            summed = tf.reduce_sum(tf.where(ids == least, tf.zeros_like(ids), ids), axis=1)
            # NaN where the scale is negative, and refused where it is zero.
            with tf.control_dependencies([tf.debugging.assert_none_equal(scale, 0.0)]):
                return {"value": found * tf.sqrt(scale) + tf.cast(summed, tf.float32)}

    module = Words()
    signature = module.default.get_concrete_function(
        words=tf.TensorSpec([None, None], tf.string, name="words"),
        ids=tf.TensorSpec([None, None], tf.int64, name="ids"),
        scale=tf.TensorSpec([None], tf.float32, name="scale"),
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": signature})


def pack(model: Path, folder: Path, **changes: Any) -> Path:
    """Write a package around a SavedModel (moved by link) and return its folder."""
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(model)
    values: dict[str, Any] = {
        "pipeline": "digits",
        "version": 3,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "digest": digest_directory(model),
        "inputs": {"image": InputSpec(dtype="float32", shape=(64,))},
        "heads": {"digit": HeadConfig(task="multiclass_classification", classes=CLASSES)},
        "serve": ServeConfig(),
        "provenance": Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    }
    PackageManifest(**(values | changes)).write(folder / "package.json")
    return folder


@dataclass
class ServerProcess:
    """A server in a process of its own."""

    process: "subprocess.Popen[str]"
    log: Path
    url: str = ""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def grpc_port(self) -> int:
        (port,) = re.findall(r"gRPC at [\d.]+:(\d+)", self.log.read_text())
        return int(port)

    def wait_ready(self) -> None:
        pattern = r"serving \w+ version \d+ at (https?://[\d.]+:\d+)/"
        for _ in range(1200):
            if (found := re.search(pattern, self.log.read_text())) is not None:
                self.url = found.group(1)
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def send(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Return status and parsed body."""
        method = "GET" if body is None else "POST"
        content = None if body is None else json.dumps(body)  # NaN too, which httpx does not send
        with open_client(self.url) as http:
            answer = http.request(method, path, content=content, headers=headers)
        return answer.status_code, answer.json()


def start(*arguments: Any, log: Path) -> ServerProcess:
    command = [sys.executable, "-m", "serving.server", *map(str, arguments)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True, env=os.environ
        )
    return ServerProcess(process, log)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers; those still running at the end are killed."""
    servers: list[ServerProcess] = []

    def begin(*arguments: Any) -> ServerProcess:
        servers.append(start(*arguments, log=tmp_path / f"server-{len(servers)}.log"))
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "model"
    save_digits(path)
    return path


@pytest.fixture(scope="session")
def words_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "model"
    save_words(path)
    return path


@pytest.fixture(scope="session")
def packed() -> Callable[..., Path]:
    return pack


@pytest.fixture(scope="session")
def digits_package(digits_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(digits_model, tmp_path_factory.mktemp("packages") / "3")


@pytest.fixture(scope="session")
def digits_server(
    digits_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One running server for all tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("log")
    grpc = ["--grpc-port", 0, "--grpc-socket", folder / "grpc.sock"]
    server = start("--package", digits_package, "--port", 0, *grpc, log=folder / "server.log")
    server.wait_ready()
    yield server
    server.process.kill()
    server.process.wait()
