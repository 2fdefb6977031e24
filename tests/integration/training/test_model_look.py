"""The look at the user's model before any data is read: what it refuses, and what it lets pass."""

import os
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from looked_at import BINARY, MASKED, MEAN, MULTI, PREPROCESSING, VALUE, finished, look

from contract.errors import UserCodeError


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


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "parts = {'x': number(features), 'square': number(features) ** 2, 'all': h}\n"
            "h = layers.Concatenate()([parts[name] for name in set(parts)])",
            r"answers the same rows differently \(by .*goes through a set, .*use sorted\(",
        ),
        (
            "for width in {'4': 4, '5': 5, '6': 6}.keys() - {'7'}:\n"
            "    h = layers.Dense(int(width))(h)",
            r"other weights: of shape .*goes through a set, .*evaluation and serving have another",
        ),
        ("h = h * (1.0 + hash('seed') % 97)", r"calls hash\(\), which is another one in each"),
        (
            "import os\nh = h * float(1 + os.getpid() % 97)",
            r"from its layer or operation 'multiply.*reads os.getpid\(\) \(model.py, line \d+\)",
        ),
        (
            "import socket\nh = layers.Rescaling(1.0 + len(socket.gethostname()), name='odd')(h)",
            r"from its layer or operation 'odd' on: .*reads socket.gethostname\(\)",
        ),
        (
            "import time\nprint(time.time())\nfrom datetime import date\n"
            "h = h * (date.today().year - 1970)",
            r"reads date.today\(\) .* evaluation and serving have another",
        ),
        (
            "import os\nh = layers.Dense(int(os.environ['SHLVL']), name='odd')(h)",
            r"of shape \[5, 4\] and \[5, 5\], in layer 'odd'.*reads os.environ\['SHLVL'\]",
        ),
    ],
)
def test_a_model_that_is_another_one_in_another_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    """Python draws a new order of sets of text in each process, not in each build."""
    monkeypatch.setenv("SHLVL", "4")
    with pytest.raises(UserCodeError, match=f"model.py: build_model: built twice.*{said}"):
        look(tmp_path, finished(dedent(MASKED) + body))


TEXT = PREPROCESSING.replace('{"x"', '{"text": tf.strings.as_string(inputs["x"]), "x"')
LOOKUP = """
number_of = layers.StringLookup(vocabulary=WORDS, num_oov_indices=1)(features["text"])
h = layers.Concatenate()([h, ops.cast(ops.expand_dims(number_of, 1), "float32")])
"""


def test_a_vocabulary_in_the_order_of_a_set_is_refused(tmp_path: Path) -> None:
    body = dedent(MASKED) + LOOKUP.replace("WORDS", "list({'basic', 'plus', 'pro'})")
    with pytest.raises(UserCodeError, match="operation 'string_lookup.*goes through a set, whose"):
        look(tmp_path, finished(body), preprocessing=TEXT)


def test_a_vocabulary_in_sorted_order_passes(tmp_path: Path) -> None:
    body = dedent(MASKED) + LOOKUP.replace("WORDS", "sorted({'basic', 'plus', 'pro'})")
    assert look(tmp_path, finished(body), preprocessing=TEXT) == ()


@pytest.mark.parametrize(
    "body",
    [
        "import time, os\nprint(time.time(), os.getpid())",
        "import os\nwith open(f\"{FOLDER}/{os.environ['USER']}\") as names:\n    names.read()",
        "import os\nassert not os.path.exists(os.path.join(os.getcwd(), 'no such file'))",
    ],
)
def test_reading_of_the_process_what_no_answer_depends_on_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    (tmp_path / "names").write_text("a b c")
    monkeypatch.setenv("USER", "names")
    extra = f"FOLDER = {str(tmp_path)!r}"
    assert look(tmp_path, f"{body}\n{finished(MASKED)}", extra=extra) == ()


def test_a_model_of_a_setting_in_the_environment_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_WIDTH", "4")
    monkeypatch.setenv("USE_ATTENTION", "true")
    body = "import os\nif os.environ.get('USE_ATTENTION') == 'true':\n"
    body += "    h = layers.Dense(int(os.environ['SLIPWAY_WIDTH']))(h)"
    assert look(tmp_path, finished(dedent(MASKED) + body)) == ()


def test_a_random_constant_is_not_blamed_on_the_clock_that_is_read_beside(tmp_path: Path) -> None:
    body = "import time\nprint(time.time())\nh = h * float(np.random.normal())"
    with pytest.raises(
        UserCodeError, match=r"operation 'multiply.*: a constant is drawn at random"
    ):
        look(tmp_path, finished(dedent(MASKED) + body))


def test_a_model_of_another_width_elsewhere_is_refused_with_what_it_read(tmp_path: Path) -> None:
    body = "import os\nwidth = 1 if os.getpid() == PID else 2"
    with pytest.raises(UserCodeError, match=r"\[batch, 2\].*as in this process.*reads os.getpid"):
        look(
            tmp_path,
            finished(dedent(MASKED) + body, "layers.Dense(width)(h)"),
            extra=f"PID = {os.getpid()}",
        )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("inputs['x'] * float(1 + os.getpid() % 97)", r"reads os.getpid\(\) \(preprocessing.py, l"),
        ("inputs['x'] - NOW.year", r"constant 2\d\d\d.0 instead of 2\d\d\d.0.*reads datetime.now"),
        ("inputs['x'] + tf.cast(START, tf.float32)", r"reads time.time\(\)"),
    ],
)
def test_a_constant_of_preprocessing_that_another_process_has_not_is_refused(
    tmp_path: Path, value: str, said: str
) -> None:
    head = "import os, time\nfrom datetime import datetime\nNOW = datetime.now()\n"
    head += "import tensorflow as tf\nSTART = tf.constant(int(time.time()))\n"
    preprocessing = head + PREPROCESSING.replace('inputs["x"]', value)
    with pytest.raises(
        UserCodeError, match=f"preprocessing_fn: traced as in another process.*{said}"
    ):
        look(tmp_path, finished(MASKED), preprocessing=preprocessing)


@pytest.mark.parametrize(
    "value",
    ["inputs['x']", "inputs['x'] * float(os.urandom(1)[0])", "inputs['x'] * len({'a', 'b'})"],
)
def test_other_constants_of_preprocessing_pass(tmp_path: Path, value: str) -> None:
    head = "import os, time\nprint(time.time())\n"
    preprocessing = head + PREPROCESSING.replace('inputs["x"]', value)
    assert look(tmp_path, finished(MASKED), preprocessing=preprocessing) == ()


def test_a_set_in_sorted_order_passes(tmp_path: Path) -> None:
    body = "h = layers.Concatenate()([{'a': h, 'b': h ** 2}[name] for name in sorted({'a', 'b'})])"
    assert look(tmp_path, finished(dedent(MASKED) + body)) == ()


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
        (BINARY, "layers.Lambda(lambda x: ops.clip(ops.sigmoid(x), .1, .9))(h[:, :1])", "sigmoid"),
        (
            MULTI,
            "layers.Lambda(lambda x: ops.maximum(ops.softmax(x), 1e-7))(layers.Dense(3)(h))",
            "softmax",
        ),
    ],
)
def test_probabilities_made_inside_a_layer_are_refused(
    tmp_path: Path, heads: dict[str, Any], output: str, kind: str
) -> None:
    body = finished("h = layers.Dense(4)(number(features))", output)
    with pytest.raises(UserCodeError, match=rf"head 'y' ends in a {kind} \(operation '.*lambda"):
        look(tmp_path, body, heads)


@pytest.mark.parametrize(
    ("heads", "output", "said"),
    [
        (BINARY, "1 / (1 + ops.exp(-layers.Dense(1)(h)))", "never below 0, .* would be 'yes'"),
        (BINARY, "layers.Dense(1, 'relu')(h)", "never below 0, .* would be 'yes'"),
        (BINARY, "layers.Dense(1, 'log_sigmoid')(h)", "never above 0, .* would be 'no'"),
        (
            MULTI,
            "0.5 * layers.Dense(3, 'softmax')(h) + 0.5 * layers.Dense(3, 'softmax')(h)",
            "to 1",
        ),
    ],
)
def test_outputs_of_one_side_are_a_warning(
    tmp_path: Path, heads: dict[str, Any], output: str, said: str
) -> None:
    body = finished("h = layers.Dense(4)(number(features))", output)
    (warning,) = look(tmp_path, body, heads)
    assert re.search(rf"head 'y' .*{said}.*; expected logits", warning)


@pytest.mark.parametrize(
    ("heads", "output"),
    [
        (BINARY, "layers.Dense(1, bias_initializer=keras.initializers.Constant(9.0))(h)"),
        (BINARY, "layers.Dense(1, kernel_initializer='zeros')(h)"),
        (MULTI, "layers.Dense(3, 'relu')(h)"),
        (VALUE, "layers.Dense(1, 'softplus')(h)"),
    ],
)
def test_outputs_that_only_begin_on_one_side_are_no_warning(
    tmp_path: Path, heads: dict[str, Any], output: str
) -> None:
    body = finished("h = layers.Dense(4, 'relu')(number(features))", output)
    assert look(tmp_path, body, heads) == ()


@pytest.mark.parametrize(
    "last",
    ["layers.Dense(1, kernel_initializer='zeros')(h)", "1e-3 * layers.Dense(1)(h)"],
)
def test_what_first_weights_hide_is_found(tmp_path: Path, last: str) -> None:
    """Kernels of zeros answer alike whatever the padding, and embeddings begin close to 0."""
    body = "words = ops.sum(layers.Embedding(9, 4)(features['words']), axis=1)\n"
    body += "h = layers.Concatenate()([number(features), words])"
    with pytest.raises(UserCodeError, match="changes with the padding of feature 'words'"):
        look(tmp_path, finished(body, last))


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
