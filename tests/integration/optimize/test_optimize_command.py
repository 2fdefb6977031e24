"""`slipway optimize` on SavedModels from elsewhere: what it writes, and what it refuses."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf
from noise import a_readers_environment, noise_in
from small_models import SIGNATURE, images, save_function
from typer.testing import CliRunner

from cli.main import app
from components.models.saved_models import load
from contract.places import CODE_FOLDER
from contract.records.optimization import OptimizeRecord
from contract.storage import digest_directory


def write(path: Path, rows: list[dict[str, Any]], compression: str = "") -> Path:
    """Write tf.Examples of float lists and ints."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in rows:
            features = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                if isinstance(value, int)
                else tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value)))
                for name, value in row.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return path


def optimize(*arguments: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["optimize", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pictures = images()[SIGNATURE]["x"]
    others = {"far": 5, "weight": [0.5]}
    examples = [{"x": one, "label": n % 5, **others} for n, one in enumerate(pictures)]
    return write(tmp_path / "rows.tfrecord", examples, "GZIP")


def test_it_writes_model_ledger_and_pictures(
    network: Path,
    rows: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    out = tmp_path / "small"
    passes = "freeze_graph, {round_weights: {num_steps: 64}}"
    code, said, noted = optimize(
        network,
        "--data",
        rows,
        "--out",
        out,
        "--label",
        "label",
        "--passes",
        passes,
        "--budget",
        100,
        "--engines",
        "litert",
        "--exports",
        "litert_int8",
        "--json",
    )
    assert code == 0, noted
    assert noise_in("".join((noted, *capfd.readouterr()))) == []  # native code's, too
    assert [str(one.message) for one in recwarn if issubclass(one.category, UserWarning)] == []
    record = OptimizeRecord.read(out / "ledger.json")
    assert json.loads(said)["ledger"][0]["name"] == "original"
    assert record.metric == "accuracy of y"
    assert set(load(out / record.model).module.signatures) == {SIGNATURE}
    assert (out / "ledger.png").stat().st_size > 0
    assert [row.name for row in record.engine.measured] == ["tensorflow", "litert"]
    assert record.engine.exports == {"litert_int8": "exports/litert_int8"}
    interpreter = tf.lite.Interpreter(str(out / "exports" / "litert_int8" / "core.tflite"))
    assert np.int8 in {tensor["dtype"] for tensor in interpreter.get_tensor_details()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}", "--data", "{rows}"], "not a SavedModel"),
        (["{tmp}/unknown", "--data", "{rows}"], "Sofdmax"),
        (["{tmp}/bare", "--data", "{rows}"], "without signatures"),
        (["{model}", "--data", "{tmp}/absent"], "no such file"),
        (["{model}", "--data", "{model}/saved_model.pb"], "truncated or not a TFRecord file"),
        (["{model}", "--data", "{tmp}/empty"], "holds no examples"),
        (["{model}", "--data", "{tmp}/other"], "takes 'x', which the examples lack"),
        (["{model}", "--data", "{tmp}/small"], "takes 'x' of shape (8, 8, 3)"),
        (["{model}", "--data", "{tmp}/torn"], "truncated or not a TFRecord file: truncated record"),
        (
            ["{model}", "--data", "{tmp}/ints"],
            "(float32): Key: x, Index: 0. Data types don't match",
        ),
        (["{model}", "--data", "{rows}", "--label", "lable"], "did you mean 'label'?"),
        (["{model}", "--data", "{rows}", "--label", "x"], "must have one number each: Key: x"),
        (["{model}", "--data", "{rows}", "--label", "far"], "'y' has scores for 0 to 4"),
        (["{model}", "--data", "{rows}", "--label", "weight"], "an output of one number a row"),
        (["{model}", "--data", "{rows}", "--passes", "fuze"], "did you mean 'fuse'?"),
    ],
)
def test_wrong_input_is_refused_with_exit_code_2_and_the_source_untouched(
    arguments: list[str], message: str, network: Path, rows: Path, tmp_path: Path
) -> None:
    write(tmp_path / "empty", [])
    write(tmp_path / "other", [{"z": [1.0]}])
    write(tmp_path / "small", [{"x": [1.0, 2.0]}])
    write(tmp_path / "ints", [{"x": 1}])
    (tmp_path / "torn").write_bytes(write(tmp_path / "whole", [{"x": [1.0]}]).read_bytes()[:-1])
    places = {"tmp": tmp_path, "model": network, "rows": rows}
    make_broken_models(network, tmp_path)
    filled = [argument.format(**places) for argument in arguments]
    source = Path(filled[0])
    before = digest_directory(source)
    code, _, noted = optimize(*filled, "--out", tmp_path / "out")
    assert code == 2, noted
    assert message in " ".join(noted.split())
    assert not (tmp_path / "out").exists()
    assert digest_directory(source) == before


def make_broken_models(network: Path, folder: Path) -> None:
    """Write a model with an operation that TensorFlow does not know, and one of no signature."""
    shutil.copytree(network, folder / "unknown")
    content = (network / "saved_model.pb").read_bytes()
    (folder / "unknown" / "saved_model.pb").write_bytes(content.replace(b"Softmax", b"Sofdmax"))
    tf.saved_model.save(tf.Module(), str(folder / "bare"))


def test_a_folder_that_is_there_already_is_not_overwritten(
    network: Path, rows: Path, tmp_path: Path
) -> None:
    code, _, noted = optimize(network, "--data", rows, "--out", network)
    assert code == 2
    assert "already exists; choose a new folder" in noted


@pytest.mark.parametrize(
    ("place", "message"),
    [("network/variables/small", "which is only read"), ("rows.tfrecord/small", "is a file")],
)
def test_an_output_inside_of_the_model_or_of_a_file_is_refused(
    place: str, message: str, network: Path, rows: Path, tmp_path: Path
) -> None:
    before = digest_directory(network)
    code, _, noted = optimize(network, "--data", rows, "--out", tmp_path / place)
    assert code == 2, noted
    assert message in noted
    assert digest_directory(network) == before


def test_an_input_without_rows_is_refused(tmp_path: Path) -> None:
    specs = (tf.TensorSpec([None, 2], tf.float32, "x"), tf.TensorSpec([], tf.float32, "heat"))
    model = save_function(tmp_path / "model", lambda x, heat: {"y": x / heat}, *specs)
    rows = write(tmp_path / "rows", [{"x": [1.0, 2.0], "heat": [3.0]}])
    code, _, noted = optimize(model, "--data", rows, "--out", tmp_path / "out")
    assert code == 2, noted
    assert "takes 'heat' of shape (), one value for all rows" in noted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_no_process_and_at_most_the_folder_that_the_next_run_removes(
    number: signal.Signals, network: Path, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "place" / "small"
    command = [sys.executable, "-m", "cli.main", "optimize", *map(str, (network, "--data", rows))]
    command += ["--out", str(out)]
    started = subprocess.Popen(
        command, cwd=CODE_FOLDER, env=a_readers_environment(), stderr=subprocess.PIPE, text=True
    )
    assert started.stderr is not None
    said = [started.stderr.readline()]
    while said[-1] and "original" not in said[-1]:
        said.append(started.stderr.readline())
    assert "original" in said[-1]
    assert noise_in("".join(said)) == []
    children = psutil.Process(started.pid).children(recursive=True)
    started.send_signal(number)
    started.communicate()
    assert not psutil.wait_procs(children, timeout=10)[1]
    left = [one.name for one in out.parent.iterdir()]
    assert [name.partition("tmp-")[0] for name in left] == (
        [".small."] if number == signal.SIGKILL else []
    )
