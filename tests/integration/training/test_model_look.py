"""The look at the user's model before any data is read: what it refuses, and what it lets pass."""

from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from components.models.model_look import look_at_model
from components.transform.preprocessing import load_preprocessing
from contract.errors import UserCodeError
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

PREPROCESSING = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    words = tft.compute_and_apply_vocabulary(inputs["words"], num_oov_buckets=1)
    return {"x": inputs["x"], "words": FIRST}
"""
HEADER = """
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

def number(features):
    return layers.Reshape((1,))(features["x"])
"""
BINARY = {"y": {"task": "binary_classification", "classes": ["no", "yes"]}}
MULTI = {"y": {"task": "multiclass_classification", "classes": ["a", "b", "c"]}}
VALUE = {"y": {"task": "regression"}}
MASKED = """
    words = layers.Embedding(9, 4, mask_zero=True)(features["words"])
    words = layers.GRU(4)(words)
    h = layers.Concatenate()([number(features), words])
"""
MEAN = MASKED.replace("layers.GRU(4)", "layers.GlobalAveragePooling1D()")


def look(
    folder: Path,
    body: str,
    heads: dict[str, Any] = BINARY,
    first: int = 1,
    extra: str = "",
    **changes: Any,
) -> tuple[str, ...]:
    """Look at a model whose `build_model` has this body."""
    raw = {
        "name": "odd",
        "features": {
            "x": {"dtype": "float32"},
            "words": {"dtype": "string", "is_variable_length": True},
        },
        "heads": heads,
        "ingest": {"source": {"kind": "csv", "files": ["a.csv"]}},
        **changes,
    }
    config = validate(PipelineConfig, raw, "odd")
    pipeline = folder / "pipelines" / "odd"
    pipeline.mkdir(parents=True)
    words = "words + 1" if first else "words"
    build = f"def build_model(features, hyperparameters):\n{indent(dedent(body), '    ')}"
    (pipeline / "model.py").write_text(f"{HEADER}\n{dedent(extra)}\n{build}")
    (pipeline / "preprocessing.py").write_text(PREPROCESSING.replace("FIRST", words))
    return look_at_model(config, pipeline, load_preprocessing(pipeline))


def finished(body: str, output: str = "layers.Dense(1)(h)") -> str:
    return f"{dedent(body)}\nreturn keras.Model(inputs=features, outputs={output})"


def test_a_masked_model_of_logits_passes(tmp_path: Path) -> None:
    assert look(tmp_path, finished(MASKED)) == ()


@pytest.mark.parametrize(
    ("output", "heads", "found"),
    [
        ('layers.Dense(1, activation="sigmoid", name="last")(h)', BINARY, "sigmoid (layer 'last')"),
        ('layers.Activation("sigmoid", name="last")(layers.Dense(1)(h))', BINARY, "sigmoid"),
        ("ops.sigmoid(layers.Dense(1)(h))", BINARY, "sigmoid"),
        ("layers.Reshape((1,))(ops.sigmoid(layers.Dense(1)(h)))", BINARY, "sigmoid"),
        ('keras.Sequential([layers.Dense(1, "sigmoid")])(h)', BINARY, "sigmoid"),
        ('layers.Dense(3, activation="softmax", name="last")(h)', MULTI, "softmax (layer 'last')"),
        ("layers.Softmax()(layers.Dense(3)(h))", MULTI, "softmax"),
        ('layers.Activation("linear")(layers.Dense(3, "softmax")(h))', MULTI, "softmax"),
        ('{"y": layers.Dense(1, activation=keras.activations.sigmoid)(h)}', BINARY, "sigmoid"),
    ],
)
def test_outputs_that_are_probabilities_are_refused_with_the_layer(
    tmp_path: Path, output: str, heads: dict[str, Any], found: str
) -> None:
    with pytest.raises(UserCodeError) as caught:
        look(tmp_path, finished(MASKED, output), heads)
    assert f"head 'y' ends in a {found}" in str(caught.value)
    assert "expected logits" in str(caught.value)


@pytest.mark.parametrize(
    ("output", "heads"),
    [
        ('layers.Dense(1, activation="sigmoid")(h)', VALUE),
        ('layers.Dense(1)(layers.Dense(4, activation="sigmoid")(h))', BINARY),
        ('layers.Dense(3, activation="log_softmax")(h)', MULTI),
    ],
)
def test_squashing_that_is_no_fault_passes(
    tmp_path: Path, output: str, heads: dict[str, Any]
) -> None:
    assert look(tmp_path, finished(MASKED, output), heads) == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("h = h * ops.convert_to_tensor(np.random.normal(size=5).astype('float32'))", "at random"),
        ("h = layers.Dense(np.random.randint(2, 10_000))(h)", "built twice it has other weights"),
        ("h = Noisy()(h)", "from call to call"),
    ],
)
def test_a_model_that_is_not_the_same_twice_is_refused(
    tmp_path: Path, body: str, said: str
) -> None:
    noisy = """
    class Noisy(layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))
    """
    with pytest.raises(UserCodeError, match=f"model.py: build_model: .*{said}"):
        look(tmp_path, finished(dedent(MASKED) + body), extra=noisy)


def test_state_that_no_checkpoint_has_is_named(tmp_path: Path) -> None:
    layer = """
    class Counting(layers.Layer):
        def build(self, shape):
            self.seen = tf.Variable(1.0)
        def call(self, x):
            return x * self.seen
    """
    body = finished(f"{dedent(MASKED)}h = Counting(name='counter')(h)")
    with pytest.raises(UserCodeError, match=r"'seen' of layer 'counter' .* no checkpoint has"):
        look(tmp_path, body, extra=layer)


@pytest.mark.parametrize(
    "body",
    [
        "words = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(features['words']))",
        "words = layers.GlobalMaxPooling1D()(layers.Embedding(9, 4)(features['words']) - 9.0)",
        "words = layers.GRU(4)(layers.Embedding(9, 4)(features['words']))",
        "words = layers.Embedding(9, 4)(features['words'])[:, -1]",
        "words = ops.expand_dims(ops.mean(ops.cast(features['words'], 'float32'), axis=1), 1)",
    ],
)
def test_answers_that_change_with_the_padding_are_refused(tmp_path: Path, body: str) -> None:
    body += "\nh = layers.Concatenate()([number(features), words])"
    with pytest.raises(
        UserCodeError, match=r"changes with the padding of feature 'words' .* mask_zero=True"
    ):
        look(tmp_path, finished(body))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_narrow_numbers_in_training_are_no_reason_to_refuse(tmp_path: Path, precision: str) -> None:
    body = MEAN.replace(
        "words = layers.GlobalAv", "words = layers.Dense(64)(words)\n    words = layers.GlobalAv"
    )
    (warning,) = look(tmp_path, finished(body), train={"precision": precision})
    assert "is empty" in warning


def test_an_empty_list_without_a_finite_answer_is_a_warning(tmp_path: Path) -> None:
    """Keras divides by the number of unmasked values: 0 / 0."""
    (warning,) = look(tmp_path, finished(MEAN))
    assert warning == (
        "model.py: build_model: head 'y' is not a finite number where the list 'words' is empty: "
        "such a row ends a training, and callers get 400 for it. Divide by a count of at least 1, "
        "or add a value that every list has"
    )


def test_ids_that_begin_at_0_beside_padding_are_a_warning(tmp_path: Path) -> None:
    (warning,) = look(tmp_path, finished(MASKED), first=0)
    assert "feature 'words' is padded with 0, which is also the id of its most frequent" in warning


SUBCLASS = """
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(WIDTH)
    def call(self, features, training=False):
        return self.last(ops.expand_dims(features["x"], -1))
"""


def test_a_subclassed_model_is_called_on_the_features(tmp_path: Path) -> None:
    assert look(tmp_path, "return Net()", extra=SUBCLASS.replace("WIDTH", "1")) == ()


def test_a_subclassed_model_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match=r"has shape \[batch, 2\]; expected \[batch, 1\]"):
        look(tmp_path, "return Net()", extra=SUBCLASS.replace("WIDTH", "2"))


def test_a_subclassed_model_that_fails_on_the_features_is_refused(tmp_path: Path) -> None:
    broken = SUBCLASS.replace("WIDTH", "1").replace('features["x"]', 'features["z"]')
    with pytest.raises(UserCodeError, match=r"Net called on the features: .*model.py:\d+"):
        look(tmp_path, "return Net()", extra=broken)


def test_a_sequential_for_several_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match=r"a Sequential takes one feature, and there are 2"):
        look(tmp_path, "return keras.Sequential([layers.Dense(1)])")


def test_outputs_that_are_no_floating_point_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match=r"head 'y' has type int32; expected floating-point"):
        look(tmp_path, finished(MASKED, "ops.cast(layers.Dense(1)(h), 'int32')"))


OWN_LAYER = """
class Own(layers.Layer):
    def call(self, x):
        return BODY
"""


@pytest.mark.parametrize("function", ["py_function", "numpy_function"])
def test_a_layer_that_calls_python_is_refused(tmp_path: Path, function: str) -> None:
    call = f"tf.ensure_shape(tf.{function}(lambda v: 2 * v, [x], tf.float32), [None, 1])"
    extra = OWN_LAYER.replace("BODY", call)
    with pytest.raises(UserCodeError, match=r"build_model: '.*PyFunc' calls Python .*py_function"):
        look(tmp_path, finished("h = Own()(number(features))"), extra=extra)


def test_a_layer_that_calls_python_in_a_loop_is_refused(tmp_path: Path) -> None:
    extra = OWN_LAYER.replace(
        "BODY",
        "tf.map_fn(lambda v: tf.ensure_shape(tf.numpy_function(abs, [v], tf.float32), [1]), x)",
    )
    with pytest.raises(UserCodeError, match="calls Python"):
        look(tmp_path, finished("h = Own()(number(features))"), extra=extra)


def test_a_model_for_batches_of_one_size_is_refused(tmp_path: Path) -> None:
    extra = OWN_LAYER.replace("BODY", "tf.reshape(tf.reshape(x, [16, -1]), [tf.shape(x)[0], 1])")
    body = finished("h = Own()(number(features))")
    expected = (
        r"takes batches of 32 rows \(train.batch_size\) and fails on 8; expected any number of "
        r"rows.*InvalidArgumentError"
    )
    with pytest.raises(UserCodeError, match=expected):
        look(tmp_path, body, extra=extra, train={"batch_size": 32})


def test_values_that_a_model_does_not_take_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """Made-up numbers are about 0; this model wants years."""
    extra = OWN_LAYER.replace("BODY", "tf.ensure_shape(_years(x), [None, 1])")
    extra += """
def _years(x):
    with tf.control_dependencies([tf.debugging.assert_greater(x, 1900.0)]):
        return tf.identity(x)
"""
    assert look(tmp_path, finished("h = Own()(number(features))"), extra=extra) == ()


@pytest.mark.parametrize(
    ("extra", "factor"),
    [
        ("", "self.kept[0]"),
        ("", "self.named['a']"),
        ("", "self.module.variable"),
        ("GLOBAL = tf.Variable(3.0)\n", "GLOBAL"),
    ],
)
def test_state_is_named_wherever_a_layer_keeps_it(tmp_path: Path, extra: str, factor: str) -> None:
    extra += f"""
class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.variable = tf.Variable(3.0)

class Own(layers.Layer):
    def __init__(self):
        super().__init__()
        self.kept, self.named = [tf.Variable(3.0)], {{"a": tf.Variable(3.0)}}
        self.module = Module()

    def call(self, x):
        return x * {factor}
"""
    with pytest.raises(UserCodeError, match=r"variable 'Variable.*' is in no layer's weights"):
        look(tmp_path, finished("h = Own()(number(features))"), extra=extra)


@pytest.mark.parametrize(
    ("heads", "output", "kind"),
    [
        (BINARY, "layers.Lambda(lambda x: tf.sigmoid(x))(layers.Dense(1)(h))", "sigmoid"),
        (MULTI, "layers.Lambda(lambda x: tf.nn.softmax(x)[:, :])(layers.Dense(3)(h))", "softmax"),
    ],
)
def test_probabilities_made_inside_a_layer_are_refused(
    tmp_path: Path, heads: dict[str, Any], output: str, kind: str
) -> None:
    body = finished("h = layers.Dense(4)(number(features))", output)
    with pytest.raises(UserCodeError, match=rf"head 'y' ends in a {kind} \(operation '.*lambda"):
        look(tmp_path, body, heads)


@pytest.mark.parametrize(
    "expression",
    [
        "x - ops.mean(x)",
        "ops.cumsum(x, axis=0)",
        "ops.sort(x, axis=0)",
        "x - x[0]",
        "x / ops.max(ops.abs(x))",
    ],
)
def test_what_is_computed_over_the_batch_is_refused(tmp_path: Path, expression: str) -> None:
    body = finished(f"x = number(features)\nh = {expression}")
    with pytest.raises(UserCodeError, match="with other rows beside it, or in another order"):
        look(tmp_path, body)


def test_random_layers_that_are_quiet_outside_training_pass(tmp_path: Path) -> None:
    """Their seeds are variables that a checkpoint has."""
    body = """
    h = layers.Dropout(0.5)(layers.Dense(4)(number(features)))
    h = layers.BatchNormalization()(layers.GaussianNoise(0.1)(h))
    """
    assert look(tmp_path, finished(body)) == ()
