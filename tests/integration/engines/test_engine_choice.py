"""Candidates made, tried in processes of their own, and one kept."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from components.optimize.chain import Data
from components.optimize.engines.attempts import Models
from components.optimize.engines.core import Core
from components.optimize.engines.cut import cut
from components.optimize.engines.engines import add_engines, choose_engine
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.judgement import Evaluation, Truth
from contract.errors import DataError
from contract.places import CODE_FOLDER
from contract.records.optimization import EngineFiles, OptimizeRecord
from contract.schema.optimize import EnginesConfig
from contract.storage import digest_directory
from serving.server.engines.cpu import this_machine

SIGNATURE = "serving_default"


def labelled(model: Any, rows: int) -> Data:
    """Return the first rows of the digits, with labels."""
    images = {"image": model.rows["image"][:rows]}
    ones = np.ones(rows, np.float32)
    truth = Truth("scores", "multiclass_classification", "accuracy", model.labels[:rows], ones)
    return Data({SIGNATURE: images}, Evaluation(SIGNATURE, images, (truth,)))


def save(path: Path, function: Callable[..., dict[str, Any]], **specs: tf.TensorSpec) -> Path:
    traced = tf.function(function, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(tf.Module(), str(path), {SIGNATURE: traced})
    return path


# --- where a graph is cut -----------------------------------------------------------------------


def test_numbers_only_need_no_front(digits: Any, cores: Callable[[Any], Core]) -> None:
    core = cores(digits)
    assert core.front is None
    assert list(core.core.inputs) == ["image"]


def test_text_stays_in_front_and_every_number_after_it_goes_into_the_core(
    parcels: Any, cores: Callable[[Any], Core]
) -> None:
    core = cores(parcels)
    kinds = {node.op for node in core.core.graph_def.node}
    assert {"MatMul", "Softmax", "Relu", "GatherV2"} <= kinds
    assert not any("Lookup" in kind or "Ragged" in kind for kind in kinds)
    assert {"weight", "count"} <= set(core.core.inputs)  # from the caller as they are
    front = GraphModel.lift(core.front).signatures[SIGNATURE]  # type: ignore[arg-type]
    assert set(front.inputs) == {"colour", "stamps"}
    assert "MatMul" not in {node.op for node in front.graph_def.node}


def test_a_number_that_only_the_front_needs_is_no_input_of_the_core(tmp_path: Path) -> None:
    """As a column that is used as a category, and one that is put into buckets."""

    def call(gain: tf.Tensor, age: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
        length = tf.strings.length(tf.strings.as_string(gain))
        bucket = tf.searchsorted([10.0, 20.0], age, side="right")
        wide = tf.one_hot(length, 8) + tf.one_hot(bucket, 8)
        return {"y": tf.nn.softmax(wide * tf.nn.relu(x)[:, None])}

    specs = {name: tf.TensorSpec([None], tf.float32, name) for name in ("age", "x")}
    specs["gain"] = tf.TensorSpec([None], tf.int64, "gain")
    parts = cut(GraphModel.lift(save(tmp_path / "in", call, **specs)).signatures[SIGNATURE])
    assert parts.front is not None
    assert set(parts.front.inputs) == {"gain", "age"}
    assert {"gain", "age"} & set(parts.core.inputs) == set()
    assert "x" in parts.core.inputs
    rows = {"gain": [100, 7], "age": [5.0, 15.0], "x": [1.0, 2.0]}
    given = {name: tf.constant(value, specs[name].dtype) for name, value in rows.items()}
    front = parts.front.concrete()(**{name: given[name] for name in parts.front.inputs})
    core = parts.core.concrete()(**{n: ({**given, **front})[n] for n in parts.core.inputs})
    np.testing.assert_allclose(core["y"], call(**given)["y"], rtol=1e-6)


def test_an_output_that_is_text_is_passed_by_the_core(tmp_path: Path) -> None:
    path = save(
        tmp_path / "in",
        lambda word, x: {"loud": tf.strings.upper(word), "y": tf.nn.relu(x) * 2.0},
        word=tf.TensorSpec([None], tf.string, "word"),
        x=tf.TensorSpec([None, 3], tf.float32, "x"),
    )
    parts = cut(GraphModel.lift(path).signatures[SIGNATURE])
    assert parts.passed == ("loud",)
    assert list(parts.core.outputs) == ["y"]
    assert parts.front is not None
    assert list(parts.front.outputs) == ["loud"]


def test_a_model_of_text_only_has_no_numeric_part(tmp_path: Path) -> None:
    path = save(
        tmp_path / "in",
        lambda word: {"length": tf.strings.length(word)},
        word=tf.TensorSpec([None], tf.string, "word"),
    )
    with pytest.raises(DataError, match="no numeric part: every output comes from text"):
        cut(GraphModel.lift(path).signatures[SIGNATURE])


# --- the choice ---------------------------------------------------------------------------------


def test_the_chosen_engine_is_kept_with_the_table(digits: Any, tmp_path: Path) -> None:
    models = Models(digits.path, digits.path, labelled(digits, 128))
    served = choose_engine(models, EnginesConfig(), tmp_path / "engine")
    names = ["tensorflow", "openvino", "openvino_int8", "litert"]
    assert [row.name for row in served.measured] == names
    by_name = {row.name: row for row in served.measured}
    assert served.name != "tensorflow"
    assert EngineFiles.read(tmp_path / "engine" / "engine.json").front == ""
    for name in ("openvino", "litert"):
        assert by_name[name].is_eligible
        assert by_name[name].max_difference <= 1e-5
        assert by_name[name].memory_mb < by_name["tensorflow"].memory_mb / 2
    int8 = by_name["openvino_int8"]
    assert int8.metric is not None and int8.metric >= 0.8  # a metric of its own, with an interval
    assert int8.metric_difference is not None and int8.cost_points is not None
    assert int8.machine == this_machine()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["engine", "fallbacks"]
    fallbacks = {one.name: tmp_path / one.path for one in served.fallbacks}
    assert served.name not in fallbacks and {served.name, *fallbacks} >= {"openvino", "litert"}
    for one in served.fallbacks:
        assert digest_directory(fallbacks[one.name]) == one.digest
        engine = EngineFiles.read(fallbacks[one.name] / "engine.json").engine
        assert engine == one.name.removesuffix("_int8")


def test_what_an_engine_cannot_take_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """Neither LiteRT nor OpenVINO computes a matrix's square root."""
    (tmp_path / "out").mkdir()
    save(
        tmp_path / "out" / "model",
        lambda x: {"y": tf.linalg.sqrtm(x)},
        x=tf.TensorSpec([None, 2, 2], tf.float32, "x"),
    )
    samples = {SIGNATURE: {"x": np.tile(np.eye(2, dtype=np.float32), (4, 1, 1))}}
    record = OptimizeRecord(model="model", ledger=())
    settings = EnginesConfig(candidates=("tensorflow", "openvino", "litert"))
    data = Data(samples, Evaluation(SIGNATURE, samples[SIGNATURE]))
    engine = add_engines(record, data, settings, tmp_path / "out").engine
    assert (engine.name, engine.path) == ("tensorflow", "")
    reasons = {row.name: row.reason for row in engine.measured}
    assert reasons["tensorflow"] == ""
    assert "left out" in reasons["openvino"] and "MatrixSquareRoot" in reasons["openvino"]
    assert "left out" in reasons["litert"] and "MatrixSquareRoot" in reasons["litert"]
    assert not (tmp_path / "out" / "engine").exists()


def test_tensorflow_alone_measures_nothing(digits: Any, tmp_path: Path) -> None:
    models = Models(digits.path, digits.path, labelled(digits, 8))
    settings = EnginesConfig(candidates=("tensorflow",))
    served = choose_engine(models, settings, tmp_path / "engine")
    assert (served.name, served.measured) == ("tensorflow", ())


def test_trials_end_with_the_process_that_started_them(digits: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", image=digits.rows["image"][:4])
    code = (
        "import sys, time; from pathlib import Path\n"
        "from components.optimize.engines.trials import Trial\n"
        "model, rows, place = map(Path, sys.argv[1:])\n"
        "print(Trial.start(model, None, rows, place).process.pid, flush=True); time.sleep(60)"
    )
    arguments = [str(digits.path), str(tmp_path / "rows.npz"), str(tmp_path)]
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=CODE_FOLDER, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    trial = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while trial.is_running() and trial.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
