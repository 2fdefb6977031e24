"""SavedModels whose answers are not a function of the row: nothing is compared with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_models import SIGNATURE, data_of, run_chain, save_function, settings
from typer.testing import CliRunner

from cli.main import app
from components.models.saved_models import load
from components.optimize.chain import Data
from components.optimize.engines.attempts import Models
from components.optimize.engines.engines import choose_engine
from components.optimize.judging.batches import answers
from components.optimize.judging.judgement import Evaluation
from components.optimize.judging.row_check import require_independent_rows, require_repeatable
from contract.errors import UserCodeError
from contract.schema.optimize import EnginesConfig

X = tf.TensorSpec([None, 3], tf.float32, "x")
WORDS = tf.TensorSpec([None, None], tf.float32, "words")
LENGTHS = (1, 4, 2, 4, 3, 1)

Function = Callable[..., dict[str, tf.Tensor]]


def pictures(rows: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)


def words() -> dict[str, np.ndarray]:
    """Return lists filled up with NaN, as `saved_models.wire_inputs` does."""
    column = np.full((len(LENGTHS), max(LENGTHS)), np.nan, np.float32)
    for row, length in enumerate(LENGTHS):
        column[row, :length] = np.arange(1, length + 1)
    return {"words": column}


def pooled(is_masked: bool) -> Function:
    """Return what drops the filler, as our signatures do, and then pads by itself and pools."""

    def call(words: tf.Tensor) -> dict[str, tf.Tensor]:
        lists = tf.ragged.boolean_mask(words, tf.logical_not(tf.math.is_nan(words)))
        dense = lists.to_tensor()
        width = tf.cast(lists.row_lengths() if is_masked else tf.shape(dense)[1], tf.float32)
        return {"y": tf.reduce_sum(dense, axis=1) / width}

    return call


def random_answer(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.reduce_sum(x + tf.random.normal(tf.shape(x)), axis=1)}


def softmax_over_rows(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.nn.softmax(x, axis=0)}


def softmax_of_row(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.nn.softmax(x, axis=1)}


def optimized(folder: Path, function: Function, *arguments: str) -> tuple[int, str]:
    """Run `slipway optimize` on a function of three numbers."""
    source = save_function(folder / "in", function, X)
    with tf.io.TFRecordWriter(str(folder / "rows")) as writer:
        for row in pictures():
            value = tf.train.Feature(float_list=tf.train.FloatList(value=row))
            features = tf.train.Features(feature={"x": value})
            writer.write(tf.train.Example(features=features).SerializeToString())
    command = ["optimize", str(source), "--data", str(folder / "rows")]
    command += ["--out", str(folder / "out"), "--passes", "freeze_graph", *arguments]
    result = CliRunner().invoke(app, command)
    return result.exit_code, " ".join(result.stderr.split())


def test_optimize_says_of_a_random_model_that_two_calls_differ(tmp_path: Path) -> None:
    code, noted = optimized(tmp_path, random_answer)
    assert code == 2, noted
    assert "two calls on the same rows differ: the answer of output 'y' changes by" in noted
    assert not (tmp_path / "out").exists()


def test_optimize_says_of_a_model_that_calls_python_that_nobody_else_can(tmp_path: Path) -> None:
    """In this process the function is known, so that all of it would seem to work."""

    def answer(x: tf.Tensor) -> dict[str, tf.Tensor]:
        doubled = tf.map_fn(lambda v: tf.numpy_function(lambda a: 2 * a, [v], tf.float32), x)
        return {"y": tf.ensure_shape(doubled, [None])}

    path = save_function(tmp_path / "in", answer, tf.TensorSpec([None], tf.float32, "x"))
    data = data_of({SIGNATURE: {"x": np.arange(4, dtype=np.float32)}})
    with pytest.raises(UserCodeError, match=r"signature 'serving_default': '.*PyFunc' calls Pyth"):
        run_chain(path, data, settings("freeze_graph"), tmp_path / "work")


def test_no_engine_is_chosen_for_answers_that_depend_on_the_batch(tmp_path: Path) -> None:
    code, noted = optimized(tmp_path, softmax_over_rows, "--engines", "litert")
    assert code == 2, noted
    assert "the answer of output 'y' to a row changes by" in noted
    assert "with the rows beside it" in noted
    assert "No engine can be held to answers that change" in noted


@pytest.mark.parametrize(
    ("function", "engines"), [(softmax_over_rows, "tensorflow"), (softmax_of_row, "litert")]
)
def test_without_a_choice_and_with_answers_of_the_row_all_is_well(
    tmp_path: Path, function: Function, engines: str
) -> None:
    code, noted = optimized(tmp_path, function, "--engines", engines)
    assert code == 0, noted


def test_the_list_whose_padding_counts_is_named_before_any_engine_is_tried(tmp_path: Path) -> None:
    source = save_function(tmp_path / "in", pooled(is_masked=False), WORDS)
    data = Data({SIGNATURE: words()}, Evaluation(SIGNATURE, words()), {"words": np.nan})
    models = Models(source, source, data)
    with pytest.raises(UserCodeError, match="changes by 0.* with the padding of 'words'.* No engi"):
        choose_engine(models, EnginesConfig(), tmp_path / "engine")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("fillers", [{"words": np.nan}, {}])
def test_lists_that_are_masked_or_taken_as_they_are_pass(
    tmp_path: Path, fillers: dict[str, Any]
) -> None:
    """Without a filler nothing says that the lists are padded: all are equally long."""
    model = load(save_function(tmp_path / "in", pooled(is_masked=True), WORDS))
    require_independent_rows(model, words(), fillers)


def test_outputs_that_are_not_by_row_are_not_looked_at(tmp_path: Path) -> None:
    def call(x: tf.Tensor, word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "y": tf.nn.relu(x),
            "loud": tf.strings.upper(word),
            "all": tf.reduce_sum(x),
            "version": tf.constant([7]),
        }

    word = tf.TensorSpec([None], tf.string, "word")
    model = load(save_function(tmp_path / "in", call, X, word))
    names = np.array([b"a", b"bc", b"def", b"g", b"h"], object)
    inputs = {"x": pictures(5), "word": names}
    require_independent_rows(model, inputs, {})
    samples = {SIGNATURE: inputs}
    require_repeatable(model, samples, answers(model, samples), 1e-5)


def test_ragged_arguments_are_asked_for_row_by_row(tmp_path: Path) -> None:
    spec = tf.RaggedTensorSpec([None, None], tf.float32)
    module = tf.Module()

    def saved(function: Any, folder: str) -> Any:
        traced = tf.function(function, autograph=False).get_concrete_function(words=spec)
        tf.saved_model.save(module, str(tmp_path / folder), {SIGNATURE: traced})
        return load(tmp_path / folder)

    column = np.empty(len(LENGTHS), object)
    for row, length in enumerate(LENGTHS):
        column[row] = np.arange(1, length + 1, dtype=np.float32)
    alone = saved(lambda words: {"y": tf.reduce_mean(words, axis=1)}, "alone")
    require_independent_rows(alone, {"words": column}, {})
    beside = saved(lambda words: {"y": tf.reduce_mean(words.to_tensor(), axis=1)}, "beside")
    with pytest.raises(UserCodeError, match="changes by .* with the padding of 'words'"):
        require_independent_rows(beside, {"words": column}, {})
