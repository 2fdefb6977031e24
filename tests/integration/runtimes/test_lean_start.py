"""Processes start without libraries that nothing in them uses."""

import json
import subprocess
import sys
from typing import Any

import pytest

SAY = "print(json.dumps(sorted(n for n in sys.modules if sys.modules[n] is not None)))"


def modules_after(*lines: str) -> list[set[str]]:
    """Run lines in one process; return the modules that are there after each."""
    code = "\n".join(["import json, sys", *(f"{line}\n{SAY}" for line in lines)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_components_keras_is_lean_and_everybody_else_finds_what_was_hidden() -> None:
    _, lean, whole = modules_after(
        "import components", "import tensorflow, keras", "import sklearn, matplotlib, pandas"
    )
    assert {"keras.src.models", "tensorflow"} <= lean
    assert not {"sklearn", "matplotlib", "pandas"} & lean
    assert {"sklearn", "matplotlib", "pandas"} <= whole


@pytest.mark.parametrize("asked", ["", "1"])
def test_tf_keras_is_keras_3_also_beside_tf_transform(monkeypatch, asked: str) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", asked)
    transform = "import tensorflow_transform, tensorflow as tf"
    modules_after("import components", transform, "assert tf.keras.version().startswith('3.')")


def test_what_is_there_already_stays() -> None:
    assert "pandas" in modules_after("import pandas, components", "import keras")[-1]


def test_the_server_of_a_saved_model_loads_no_keras(digits: Any) -> None:
    path = str(digits.path)
    runtime = "from serving.server.tensorflow_runtime import TensorFlowRuntime"
    load = f"import pathlib; TensorFlowRuntime(pathlib.Path({path!r}))"
    _, loaded, later = modules_after(runtime, load, "import keras")
    assert "tensorflow" in loaded
    assert "keras" not in loaded
    assert "keras" in later
