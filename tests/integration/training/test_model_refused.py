"""A model whose answers depend on more than the row: evaluation refuses it, and training ends."""

import numpy as np
import pytest
import tensorflow as tf

from contract.errors import UserCodeError
from contract.records.evaluation import ModelRefused
from contract.records.training import TrainingEnded

SPEC = {"x": tf.io.FixedLenFeature([4], tf.float32), "words": tf.io.VarLenFeature(tf.int64)}

MODEL = """
import time
import keras
from keras import layers, ops

class Always(layers.Layer):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x, training=True)

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)

def build_model(features, hyperparameters):
    words = layers.Embedding(10, 8, mask_zero=MASK)(features["words"])
    words = layers.GlobalAveragePooling1D()(words)
    hidden = layers.Concatenate()([HIDDEN, words])
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))

def callbacks(hyperparameters, steps):
    return [Slow()] if steps > 100 else []
"""


def model(hidden: str = 'features["x"]', is_masked: bool = True) -> str:
    return MODEL.replace("HIDDEN", hidden).replace("MASK", str(is_masked))


def rows(split: str) -> list[dict[str, object]]:
    random = np.random.default_rng(1)
    return [
        {
            "x": [float(v) for v in random.normal(size=4)],
            "words": random.integers(1, 10, 1 + number % 7).tolist(),
            "label:kind": number % 3,
            "example_id": f"{split}-{number}",
            "slice:colour": "red",
        }
        for number in range(60)
    ]


def test_training_beside_evaluation_ends_soon_after_the_first_checkpoint(make_run):
    overrides = {"train.steps": 5000, "train.checkpoint_every_steps": 20}
    made = make_run(model=model(is_masked=False), spec=SPEC, rows=rows, overrides=overrides)
    trainer, evaluator = made.start("train"), made.start("evaluate")
    said, by_trainer = evaluator.communicate()[0], trainer.communicate()[0]
    assert (trainer.returncode, evaluator.returncode) == (2, 2), said + by_trainer
    cause = "the answer of head 'kind' to a row changes by 0."
    assert f"evaluate: checkpoint 20: model.py: {cause}" in said
    assert "with the padding of 'words', that is with longer rows beside it: mask it" in said
    assert (
        "train: ended, because evaluation refused checkpoint 20: model.py: " + cause in by_trainer
    )
    ended = TrainingEnded.read(made.run.training_ended)
    assert not ended.has_succeeded
    assert ended.last_step < 5000
    assert "with the padding of 'words'" in ended.reason
    assert not list(made.run.verdict(0).parent.glob("*.json"))


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        (
            'Always(layers.BatchNormalization())(features["x"])',
            "changes by .* with the rows beside it: something is computed over the batch",
        ),
        ('Always(layers.Dropout(0.5))(features["x"])', "two calls on the same rows differ"),
    ],
)
def test_other_causes_are_named_by_evaluate(make_run, hidden, message):
    made = make_run(model=model(hidden), spec=SPEC, rows=rows)
    made.train()
    with pytest.raises(UserCodeError, match=message):
        made.evaluate()
    assert ModelRefused.read(made.run.model_refused).step == made.published[0]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_masked_model_is_judged_whatever_it_computes_in(make_run, precision, caplog):
    overrides = {"train.precision": precision}
    made = make_run(model=model(), spec=SPEC, rows=rows, overrides=overrides)
    made.train()
    ModelRefused(step=10, reason="of an attempt before").write(made.run.model_refused)
    with caplog.at_level("INFO"):
        record, _ = made.evaluate()
    assert record.steps == (10, 20, 30, 40)
    assert not made.run.model_refused.exists()
    assert caplog.text.count("evaluate: answers to 32 rows depend on each row alone") == 1


def test_a_package_that_may_skew_further_is_not_refused_for_less(make_run):
    overrides = {"package.skew_tolerance": 10.0}
    made = make_run(model=model(is_masked=False), spec=SPEC, rows=rows, overrides=overrides)
    made.train()
    assert made.evaluate()[0].steps == (10, 20, 30, 40)
