"""Constants of a `preprocessing_fn` as in another process, traced by TensorFlow alone."""

import logging
from pathlib import Path

import pytest
import tensorflow as tf

from components.models.frozen_constants import Function, check_constants
from contract.errors import UserCodeError

PREPROCESSING = """
import os
import tensorflow as tf

def preprocessing_fn(inputs):
    whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    path = os.path.join("/data", f"{os.getpid()}.txt")
    file = tf.lookup.TextFileInitializer(PATH, tf.string, whole, tf.int64, number)
    found = tf.lookup.StaticHashTable(file, -1).lookup(inputs["words"])
    return {"y": RESULT}
"""


def traced(function: Function) -> tf.Graph:
    spec = {"words": tf.TensorSpec([None], tf.string)}
    return tf.function(function, autograph=False).get_concrete_function(spec).graph


@pytest.mark.parametrize("path", ["path", "tf.constant(path)"])
def test_the_path_of_a_lookup_is_no_constant(tmp_path: Path, path: str) -> None:
    text = PREPROCESSING.replace("PATH", path).replace("RESULT", "found")
    (tmp_path / "preprocessing.py").write_text(text)
    check_constants(tmp_path, traced)


@pytest.mark.parametrize(
    "result", ["found + os.getpid()", "tf.strings.join([inputs['words'], path])"]
)
def test_other_constants_beside_a_lookup_are_refused(tmp_path: Path, result: str) -> None:
    text = PREPROCESSING.replace("PATH", "path").replace("RESULT", result)
    (tmp_path / "preprocessing.py").write_text(text)
    with pytest.raises(UserCodeError, match=r"preprocessing_fn: traced .*reads os.getpid\(\)"):
        check_constants(tmp_path, traced)


def test_a_trace_that_fails_on_other_facts_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("USER", "ada")
    caplog.set_level(logging.INFO, "slipway")
    (tmp_path / "ada").write_text("a")
    (tmp_path / "preprocessing.py").write_text(
        f"import os\nTEXT = open({str(tmp_path)!r} + '/' + os.environ['USER']).read()\n"
        "def preprocessing_fn(inputs):\n    return inputs\n"
    )
    check_constants(tmp_path, traced)
    (record,) = caplog.records
    assert record.getMessage() == (
        "preprocessing.py: constants not compared, facts of another process fail: UserCodeError: "
        "preprocessing.py: import: ValueError at preprocessing.py:2: embedded null byte"
    )
