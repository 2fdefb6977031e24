"""Each engine answers like TensorFlow, through the real server."""

import base64
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from contract.errors import DataError
from contract.records.optimization import EngineMeasurement, Machine
from contract.records.package import PackageManifest
from serving.server.core.model import load_model, read_package
from serving.server.engines.cpu import this_machine
from serving.server.engines.examples import ExamplesParser

Packaged = Callable[..., Path]
Launch = Callable[[Path], Any]


def as_example(image: np.ndarray) -> dict[str, str]:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))
    features = tf.train.Features(feature={"image": feature})
    serialized = tf.train.Example(features=features).SerializeToString()
    return {"b64": base64.b64encode(serialized).decode()}


@pytest.mark.parametrize("engine", ["openvino", "litert"])
def test_float_engines_answer_like_tensorflow_and_do_not_load_it(
    digits: Any, packaged: Packaged, launch: Launch, engine: str
) -> None:
    server = launch(packaged(digits, engine))
    expected = digits.answers()["scores"]
    for rows in (1, 5, 64, 200):  # 200 are more than a batch
        status, found = server.predict(digits.rows["image"][:rows].tolist())
        assert status == 200
        np.testing.assert_allclose(found, expected[:rows], atol=1e-5)
    examples = [as_example(image) for image in digits.rows["image"][:3]]
    status, found = server.predict(examples, signature_name="serving_examples")
    np.testing.assert_allclose(found, expected[:3], atol=1e-5)
    status, error = server.predict([as_example(np.zeros(5))], signature_name="serving_examples")
    assert status == 400
    assert "image: found 5 values, expected 64" in error
    assert not server.has_tensorflow


@pytest.mark.parametrize("engine", ["openvino_int8", "litert_int8"])
def test_int8_keeps_the_accuracy_within_a_point(
    digits: Any, packaged: Packaged, launch: Launch, engine: str
) -> None:
    server = launch(packaged(digits, engine))
    status, found = server.predict(digits.rows["image"].tolist())
    assert status == 200
    accuracy = np.mean(np.argmax(found, axis=1) == digits.labels)
    exact = np.mean(np.argmax(digits.answers()["scores"], axis=1) == digits.labels)
    assert exact > 0.85  # it has learned something that can be lost
    assert accuracy >= exact - 0.01
    assert np.max(np.abs(found - digits.answers()["scores"])) > 1e-6  # it is another model


@pytest.mark.parametrize("engine", ["openvino", "litert"])
def test_text_lists_and_two_heads_are_answered_behind_a_front(
    parcels: Any, packaged: Packaged, launch: Launch, engine: str
) -> None:
    server = launch(packaged(parcels, engine))
    expected, rows = parcels.answers(), parcels.instances(64)
    found = [row for r in rows[:8] for row in server.predict([r])[1]]  # one at a time
    status, together = server.predict(rows)
    assert status == 200
    for name, values in expected.items():
        np.testing.assert_allclose([row[name] for row in together], values, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose([row[name] for row in found], values[:8], rtol=1e-4, atol=1e-5)
    status, _ = server.predict([{**rows[0], "stamps": []}])
    assert status == 200
    assert server.has_tensorflow


@pytest.mark.parametrize("engine", ["openvino", "litert"])
def test_threads_get_their_own_answers(digits: Any, packaged: Packaged, engine: str) -> None:
    folder = packaged(digits, engine, num_batch_threads=4)
    model, expected = load_model(folder, read_package(folder)), digits.answers()["scores"]
    faults: list[str] = []

    def call(offset: int) -> None:
        for turn in range(60):
            rows = np.arange(1 + (offset + turn) % 9) * 7 + offset
            answer = model.call("serving_default", {"image": digits.rows["image"][rows]})
            if not np.allclose(answer["scores"], expected[rows], atol=1e-5):
                faults.append(f"thread {offset}, turn {turn}")

    threads = [threading.Thread(target=call, args=[offset]) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_server_drains_when_told_to_and_dies_when_killed(
    digits: Any, packaged: Packaged, launch: Launch
) -> None:
    package = packaged(digits, "litert")
    told, killed = launch(package), launch(package)
    assert told.predict(digits.rows["image"][:1].tolist())[0] == 200
    told.process.send_signal(signal.SIGTERM)
    killed.process.send_signal(signal.SIGKILL)
    assert told.process.wait(30) == 0
    assert killed.process.wait(30) == -signal.SIGKILL
    again = launch(package)  # the files are as they were
    assert again.predict(digits.rows["image"][:1].tolist())[0] == 200


def test_a_changed_engine_file_is_refused(digits: Any, packaged: Packaged) -> None:
    folder = packaged(digits, "litert")
    with (folder / "engine" / "core.tflite").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"engine: corrupt: its digest is"):
        load_model(folder, PackageManifest.read(folder / "package.json"))


def test_bf16_is_refused_where_the_cpu_has_none(digits: Any, packaged: Packaged) -> None:
    folder = packaged(digits, "openvino_bf16")
    if any("bf16" in flag for flag in this_machine().flags):
        load_model(folder, read_package(folder))
        return
    with pytest.raises(DataError, match="this CPU does not compute in bf16"):
        load_model(folder, read_package(folder))


def test_another_machine_than_the_measured_one_is_named(
    digits: Any, packaged: Packaged, caplog: pytest.LogCaptureFixture
) -> None:
    folder = packaged(digits, "litert")
    manifest = read_package(folder)
    machine = Machine(cpu="Some CPU", flags=("amx_int8",))
    trial = EngineMeasurement(name="litert", is_eligible=True, machine=machine)
    engine = manifest.engine.model_copy(update={"measured": (trial,)})
    load_model(folder, manifest.model_copy(update={"engine": engine}))
    assert "may not be the best one here: measured on Some CPU" in caplog.text


def test_start_is_cheap_without_tensorflow(digits: Any, packaged: Packaged, launch: Launch) -> None:
    """Importing TensorFlow alone costs some 500 MB and 4 s."""
    import psutil

    started = time.process_time()
    server = launch(packaged(digits, "litert"))
    process = psutil.Process(server.process.pid)
    usage = process.cpu_times()
    assert process.memory_info().rss < 200 * 2**20
    assert usage.user + usage.system < 4.0
    assert time.process_time() >= started


def test_examples_are_parsed_as_tensorflow_does(parcels: Any) -> None:
    """The same bytes through `tf.io.parse_example`."""
    feature, serialized = tf.train.Feature, []
    for row in parcels.instances(20):
        features = {
            "colour": feature(bytes_list=tf.train.BytesList(value=[row["colour"].encode()])),
            "weight": feature(float_list=tf.train.FloatList(value=[row["weight"]])),
            "count": feature(int64_list=tf.train.Int64List(value=[-row["count"]])),
        }
        if row["stamps"]:  # else it is absent
            words = [word.encode() for word in row["stamps"]]
            features["stamps"] = feature(bytes_list=tf.train.BytesList(value=words))
        example = tf.train.Example(features=tf.train.Features(feature=features))
        serialized.append(example.SerializeToString())
    found = ExamplesParser(parcels.inputs)(np.array(serialized, object))
    expected = tf.io.parse_example(
        serialized,
        {
            "colour": tf.io.FixedLenFeature([], tf.string),
            "weight": tf.io.FixedLenFeature([], tf.float32),
            "count": tf.io.FixedLenFeature([], tf.int64),
            "stamps": tf.io.RaggedFeature(tf.string),
        },
    )
    for name in ("colour", "weight", "count"):
        np.testing.assert_array_equal(found[name], expected[name].numpy())
    np.testing.assert_array_equal(found["stamps"], expected["stamps"].to_tensor("").numpy())
