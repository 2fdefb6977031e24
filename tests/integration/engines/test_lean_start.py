"""Processes start without libraries that nothing in them uses."""

import json
import subprocess
import sys
from typing import Any

import pytest

SAY = "print(json.dumps(sorted(n for n in sys.modules if sys.modules[n] is not None)))"

USES = """
model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")

import pandas as pd
rows = pd.DataFrame({"a": np.arange(8.0), "b": np.arange(8.0)})
history = model.fit(rows, pd.Series(np.arange(8.0)), validation_split=0.25, verbose=0).history
assert {"loss", "val_loss"} <= set(history)

from sklearn.base import ClassifierMixin, clone
wrapped = keras.wrappers.SKLearnClassifier(model)
assert isinstance(wrapped, ClassifierMixin) and type(clone(wrapped)) is type(wrapped)
import pickle
assert pickle.loads(pickle.dumps(keras.wrappers.SKLearnClassifier)) is type(wrapped)

import io
images, target = np.zeros((4, 8, 8, 3)), io.BytesIO()
keras.visualization.plot_image_gallery(images, value_range=(0, 1), rows=2, cols=2, path=target)
assert target.getvalue().startswith(b"\\x89PNG")
from keras import utils
assert callable(utils.plot_model)
"""


def modules_after(*lines: str) -> list[set[str]]:
    """Run lines in one process; return the modules that are there after each."""
    code = "\n".join(["import json, sys", *(f"{line}\n{SAY}" for line in lines)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_components_keras_is_lean_and_works_as_usual_with_what_was_hidden() -> None:
    _, lean, *_, whole = modules_after(
        "import components",
        "import tensorflow, keras, numpy as np",
        *USES.split("\n\n"),
        "import sklearn, matplotlib, pandas",
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
    engine = "from serving.server.engines.tensorflow_engine import TensorFlowModel"
    load = f"import pathlib; TensorFlowModel(pathlib.Path({path!r}))"
    _, loaded, later = modules_after(engine, load, "import keras")
    assert "tensorflow" in loaded
    assert "keras" not in loaded
    assert "keras" in later
