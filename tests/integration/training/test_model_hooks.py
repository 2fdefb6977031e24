"""What users write in `model.py`: used when right, refused with its place when wrong."""

import numpy as np
import pytest
import tensorflow as tf

from components.models.user_model import head_scores
from components.quality.verdicts import read_verdicts
from contract.errors import UserCodeError

BUILD = """
import keras
import tensorflow as tf
from pathlib import Path

def build_model(features, hyperparameters):
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(features["x"]))
"""

TWO_HEADS = """
name: tiny
features:
  x: {dtype: float32, shape: [4]}
  colour: {dtype: string}
heads:
  kind: {task: multiclass_classification, classes: [a, b, c], loss_weight: 2.0}
  size: {task: regression, loss_weight: 0.5}
  good: {task: binary_classification, classes: ["no", "yes"]}
ingest:
  source: {kind: csv, files: [rows.csv]}
train: {steps: 60, batch_size: 20, checkpoint_every_steps: 30, learning_rate: 0.05}
evaluate: {poll_seconds: 0.05}
"""


def two_head_rows(split: str) -> list[dict]:
    random = np.random.default_rng(len(split))
    rows = []
    for number in range(120):
        x = random.normal(size=4)
        rows.append(
            {
                "x": [float(v) for v in x],
                "label:kind": int(x[:3].argmax()),
                "label:size": float(x.sum()),
                "label:good": int(x[3] > 0),
                "example_id": str(number),
            }
        )
    return rows


# --- build_model --------------------------------------------------------------------------------


def test_several_heads_learn_together(make_run):
    model = """
    import keras

    def build_model(features, hyperparameters):
        heads = {"kind": 3, "size": 1, "good": 1}
        outputs = {name: keras.layers.Dense(n)(features["x"]) for name, n in heads.items()}
        return keras.Model(inputs=features, outputs=outputs)
    """
    made = make_run(
        model=model,
        pipeline=TWO_HEADS,
        overrides={"train.steps": 300, "train.checkpoint_every_steps": 300},
        rows=two_head_rows,
    )
    made.train()
    made.evaluate()
    metrics = read_verdicts(made.run)[-1].metrics
    assert metrics["kind"]["accuracy"].value > 0.9
    assert metrics["size"]["r2"].value > 0.95
    assert metrics["good"]["auc"].value > 0.97


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "build_model: returned int; expected a keras.Model"),
        ("raise KeyError('no such')", "build_model: KeyError at model.py:6"),
        (
            "return keras.Model(inputs=features, outputs=keras.layers.Dense(4)(features['x']))",
            r"head 'kind' \(multiclass_classification\) has shape \[batch, 4\]; expected "
            r"\[batch, 3\]",
        ),
        (
            "return keras.Model(inputs=features, outputs={'knd': keras.layers.Dense(3)"
            "(features['x'])})",
            "output 'knd' is not a head .*; did you mean 'kind'",
        ),
        (
            "mine = keras.Input((2,), name='mine')\n    return keras.Model(inputs={'mine': mine}, "
            "outputs=keras.layers.Dense(3)(mine))",
            "input 'mine' that is none of the transformed features",
        ),
        (
            "x = features['x']\n    return keras.Model(inputs=x, outputs=keras.layers.Dense(3)(x))",
            "expected keras.Model.inputs=features",
        ),
        (
            "return keras.Model(inputs=features, outputs=keras.layers.Flatten()(features['x'])"
            "[:, :3])",
            "the model has nothing to train",
        ),
        (
            "nan = keras.initializers.Constant(float('nan'))\n    "
            "layer = keras.layers.Dense(3, kernel_initializer=nan)\n    "
            "return keras.Model(inputs=features, outputs=layer(features['x']))",
            "the weight 'dense.*/kernel' is not finite before the first step",
        ),
    ],
)
def test_wrong_build_model_is_refused(make_run, body, message):
    model = f"import keras\n\n\n\ndef build_model(features, hyperparameters):\n    {body}\n"
    with pytest.raises(UserCodeError, match=message):
        make_run(model=model).train()


def test_one_output_for_two_heads_is_refused(make_run):
    made = make_run(model=BUILD, pipeline=TWO_HEADS, rows=two_head_rows)
    with pytest.raises(
        UserCodeError, match="one output, but the pipeline has the heads kind, size"
    ):
        made.train()


def test_a_head_without_output_is_refused(make_run):
    named = BUILD.replace("outputs=keras.layers.Dense(3)", "outputs={'kind': keras.layers.Dense(3)")
    model = named.replace('(features["x"])', '(features["x"])}')
    made = make_run(model=model, pipeline=TWO_HEADS, rows=two_head_rows)
    with pytest.raises(UserCodeError, match="no output for head 'size'"):
        made.train()


def test_missing_build_model_names_the_nearest(make_run):
    made = make_run(model="def build_modell(features, hyperparameters): ...\n")
    with pytest.raises(UserCodeError, match="expected a function build_model.*'build_modell'"):
        made.train()


def test_bfloat16_computes_in_it_and_answers_in_float32(make_run):
    made = make_run(overrides={"train.precision": "mixed_bfloat16"})
    made.train()
    model = made.model(40)
    assert {layer.compute_dtype for layer in model.layers[1:]} == {"bfloat16"}
    assert {weight.dtype for weight in model.trainable_variables} == {"float32"}
    made.evaluate()
    assert read_verdicts(made.run)[-1].metrics["kind"]["accuracy"].value > 0.6


def test_compiled_by_xla_it_learns_the_same(make_run):
    plain, compiled = (
        make_run(model=BUILD),
        make_run(model=BUILD, overrides={"train.jit_compile": True}),
    )
    plain.train()
    compiled.train()
    for found, expected in zip(
        compiled.model(40).get_weights(), plain.model(40).get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_lists_of_ids_are_learned_from(make_run):
    model = """
    import keras

    def build_model(features, hyperparameters):
        embedded = keras.layers.Embedding(10, 4, mask_zero=True)(features["words"])
        pooled = keras.layers.GlobalAveragePooling1D()(embedded)
        return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(pooled))
    """

    def rows(split: str) -> list[dict]:
        random = np.random.default_rng(len(split))
        made = []
        for number in range(150):
            kind = int(random.integers(3))
            words = [1 + kind] * int(random.integers(1, 4)) + [5] * int(random.integers(0, 3))
            made.append({"words": words, "label:kind": kind, "example_id": str(number)})
        return made

    made = make_run(
        model=model,
        spec={"words": tf.io.VarLenFeature(tf.int64)},
        rows=rows,
        overrides={"evaluate.slices": [], "train.steps": 100},
    )
    made.train()
    made.evaluate()
    assert read_verdicts(made.run)[-1].metrics["kind"]["accuracy"].value == 1.0


def test_scores_of_each_task(make_run):
    config = make_run(model=BUILD, pipeline=TWO_HEADS, rows=two_head_rows).config
    outputs = {
        "kind": tf.math.log([[0.2, 0.3, 0.5]]),
        "size": tf.constant([[7.0]]),
        "good": tf.math.log([[0.8 / 0.2]]),
    }
    scores = {head: value.numpy() for head, value in head_scores(config, outputs).items()}
    np.testing.assert_allclose(scores["kind"], [[0.2, 0.3, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(scores["good"], [[0.2, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(scores["size"], [7.0])


# --- the optional hooks -------------------------------------------------------------------------


def final_weights(made) -> list[np.ndarray]:
    made.train()
    return made.model(40).get_weights()


def test_own_loss_replaces_the_default(make_run):
    own = """
def loss(labels, outputs, weights):
    return 0.0 * tf.nn.sparse_softmax_cross_entropy_with_logits(labels["kind"], outputs["kind"])
"""
    default = """
def loss(labels, outputs, weights):
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels["kind"], outputs["kind"])
    return weights * each
"""
    without, same, nothing = (make_run(model=BUILD + hook) for hook in ("", default, own))
    expected = final_weights(without)
    for found, wanted in zip(final_weights(same), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert np.all(final_weights(nothing)[1] == 0)  # biases start at 0 and are not moved


def test_own_train_step_computes_the_gradients(make_run):
    hook = """
def train_step(model, features, labels, weights, compute_loss):
    with tf.GradientTape() as tape:
        loss = compute_loss(labels, {"kind": model(features, training=True)}, weights)
    kernel, bias = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return loss, [kernel, None]
"""
    kernel, bias = final_weights(make_run(model=BUILD + hook))
    assert np.all(bias == 0)
    assert np.any(kernel != final_weights(make_run(model=BUILD))[0])


def test_variables_that_the_loss_does_not_touch_are_named_once(make_run, caplog):
    model = """
import keras

def build_model(features, hyperparameters):
    hidden = keras.ops.stop_gradient(keras.layers.Dense(4, name="idle")(features["x"]))
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))
"""
    make_run(model=model, overrides={"train.steps": 5}).train()
    said = [record.message for record in caplog.records if "does not depend" in record.message]
    assert len(said) == 1
    assert "2 of 4 trainable variables, they do not learn: idle/kernel, idle/bias;" in said[0]


def test_own_optimizer_is_used(make_run):
    hook = """
def optimizer(hyperparameters, steps):
    assert steps == 40
    return keras.optimizers.SGD(hyperparameters["rate"])
"""
    made = make_run(model=BUILD + hook, overrides={"train.hyperparameters.rate": 1e-30})
    _, bias = final_weights(made)
    assert np.abs(bias).max() < 1e-25


def test_callbacks_see_every_step_and_may_stop(make_run, tmp_path):
    hook = """
class Diary(keras.callbacks.Callback):
    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.lines = []
    def on_train_begin(self, logs=None):
        self.lines.append("begin")
    def on_epoch_begin(self, epoch, logs=None):
        self.lines.append(f"epoch {epoch}")
    def on_epoch_end(self, epoch, logs=None):
        self.lines.append(f"epoch {epoch} ended {logs['loss'] > 0}")
    def on_train_batch_begin(self, batch, logs=None):
        self.lines.append(f"before {batch}")
    def on_train_batch_end(self, batch, logs=None):
        self.lines.append(f"after {batch} {logs['loss'] > 0}")
        self.model.stop_training = batch == 3
    def on_train_end(self, logs=None):
        self.path.write_text("\\n".join([*self.lines, "end"]))

def callbacks(hyperparameters, steps):
    return [Diary(hyperparameters["diary"])]
"""
    diary = tmp_path / "diary"
    overrides = {"train.hyperparameters.diary": str(diary), "train.batch_size": 80}
    made = make_run(model=BUILD + hook, overrides=overrides)
    record = made.train()
    assert record.last_step == 4
    assert record.checkpoints == (4,)
    steps = [line for n in range(4) for line in (f"before {n}", f"after {n} True")]
    # of 200 examples the third batch of 80 goes into the second epoch
    expected = ["begin", "epoch 0", *steps[:6], "epoch 0 ended True", "epoch 1", *steps[6:], "end"]
    assert diary.read_text().splitlines() == expected


def test_own_metrics_are_measured_by_head(make_run):
    hook = """
def metrics():
    return {"kind": {"share_of_a": lambda labels, scores, weights: float((labels == 0).mean())}}
"""
    made = make_run(model=BUILD + hook, overrides={"bless.metric": "share_of_a"})
    made.train()
    made.evaluate()
    verdict = read_verdicts(made.run)[0]
    labels = [row["label:kind"] for row in made.rows("eval")]
    assert verdict.metrics["kind"]["share_of_a"].value == labels.count(0) / 60
    assert "share_of_a" in verdict.slices["colour=red"]["kind"]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("def loss(labels, outputs): ...", r"expected loss\(labels, outputs, weights\)"),
        ("loss = 3", "'loss' is not a function"),
        (
            "def loss(labels, outputs, weights):\n    return tf.reduce_mean(weights)",
            r"model.py: loss: returned float32 of shape \(\); expected one float per example",
        ),
        (
            "def loss(labels, outputs, weights):\n    return tf.reduce_sum(outputs['kind'], 0)",
            r"loss: returned float32 of shape \(3,\); expected one float per example",
        ),
        (
            "def loss(labels, outputs, weights):\n    raise RuntimeError('oh')",
            "model.py: loss: RuntimeError at model.py:10: oh",
        ),
        (
            "def loss(labels, outputs, weights):\n    return weights",
            "the loss depends on none of the 2 trainable variables",
        ),
        (
            "def optimizer(hyperparameters, steps):\n    return 'adam'",
            "optimizer: returned str; expected a keras.optimizers.Optimizer",
        ),
        (
            "def train_step(model, features, labels, weights, compute_loss):\n    return 1.0",
            r"train_step: expected \(loss, gradients\) with 2 gradients.*found float",
        ),
        (
            "def train_step(model, features, labels, weights, compute_loss):\n"
            "    return weights, [None, None]",
            "train_step: loss has shape .*; expected a scalar",
        ),
        (
            "def callbacks(hyperparameters, steps):\n    return [print]",
            "callbacks: returned .*; expected keras.callbacks.Callback's",
        ),
        (
            "class Bad(keras.callbacks.Callback):\n    def on_train_begin(self, logs=None):\n"
            "        raise ValueError('bad day')\n"
            "def callbacks(hyperparameters, steps):\n    return [Bad()]",
            "model.py: callbacks: ValueError at model.py:11: bad day",
        ),
        (
            "def callbacks(hyperparameters, steps):\n    return [keras.callbacks.EarlyStopping()]",
            "callbacks: EarlyStopping is written for model.fit.* use evaluate.early_stop",
        ),
        ("def metrics():\n    return [1]", r"metrics\(\): returned list; expected {head: {name:"),
        (
            "def metrics():\n    return {'knd': {}}",
            r"metrics\(\): 'knd' is not a head .*; did you mean 'kind'",
        ),
        ("def metrics():\n    return {'kind': {'f': 3}}", "head 'kind' holds {'f': 3}; expected"),
    ],
)
def test_wrong_hook_is_refused(make_run, hook, message):
    with pytest.raises(UserCodeError, match=message):
        make_run(model=f"{BUILD}\n{hook}\n").train()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("1 / 0", "metrics of head 'kind': ZeroDivisionError"),
        ("'good'", "metrics: 'bad' returned 'good'; expected a number"),
    ],
)
def test_metric_that_gives_no_number_is_the_users_error(make_run, returned, message):
    hook = f"""
def metrics():
    return {{"kind": {{"bad": lambda labels, scores, weights: {returned}}}}}
"""
    made = make_run(model=BUILD + hook)
    made.train()
    with pytest.raises(UserCodeError, match=message):
        made.evaluate()


def test_a_layer_that_fails_in_training_only_is_the_users_error(make_run):
    model = """import keras

class Moody(keras.layers.Layer):
    def call(self, x, training=False):
        if training:
            raise RuntimeError("not today")
        return x

def build_model(features, hyperparameters):
    x = Moody()(features["x"])
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(x))
"""
    with pytest.raises(
        UserCodeError, match=r"train: the model, after step 0: RuntimeError at model.py:6"
    ) as caught:
        make_run(model=model).train()
    assert "not today" in str(caught.value)
