"""Default losses against hand arithmetic."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.models.model_hooks import ModelHooks
from components.train.learning.losses import example_losses
from contract.errors import UserCodeError
from contract.schema.data import HeadConfig
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig

NO_HOOKS = ModelHooks(build_model=print)


def config_of(heads: dict[str, HeadConfig], **train: Any) -> PipelineConfig:
    return PipelineConfig.model_construct(  # type: ignore[call-arg]  # of the rest nothing is read
        heads=heads, train=TrainConfig(**train)
    )


BINARY = HeadConfig(task="binary_classification", classes=("no", "yes"))
MULTICLASS = HeadConfig(task="multiclass_classification", classes=("a", "b", "c"))
REGRESSION = HeadConfig(task="regression")
TWICE = REGRESSION.model_copy(update={"loss_weight": 2.0})


def losses_of(heads, labels, outputs, weights=(1.0, 1.0), **train: Any) -> np.ndarray:
    config = config_of(heads, **train)
    tensors = [{k: tf.constant(v) for k, v in values.items()} for values in (labels, outputs)]
    return example_losses(config, NO_HOOKS)(tensors[0], tensors[1], tf.constant(weights)).numpy()


def test_binary_is_cross_entropy_of_the_logits_sigmoid():
    odds = math.log(3.0)  # a chance of 3/4
    found = losses_of({"h": BINARY}, {"h": [1, 0]}, {"h": [[odds], [odds]]})
    assert found == pytest.approx([-math.log(0.75), -math.log(0.25)], rel=1e-6)


def test_multiclass_is_cross_entropy_of_the_logits_softmax():
    logits = [[math.log(1.0), math.log(2.0), math.log(5.0)]] * 2  # chances 1/8, 2/8, 5/8
    found = losses_of({"h": MULTICLASS}, {"h": [0, 2]}, {"h": logits})
    assert found == pytest.approx([math.log(8), math.log(8 / 5)], rel=1e-6)


def test_regression_is_the_squared_error():
    found = losses_of({"h": REGRESSION}, {"h": [1.0, 2.0]}, {"h": [[4.0], [2.5]]})
    assert found == pytest.approx([9.0, 0.25])


def test_heads_add_up_by_loss_weight_and_examples_by_their_weight():
    heads = {
        "size": REGRESSION.model_copy(update={"loss_weight": 2.0}),
        "age": REGRESSION.model_copy(update={"loss_weight": 0.5}),
    }
    labels = {"size": [0.0, 0.0], "age": [0.0, 0.0]}
    outputs = {"size": [[1.0], [2.0]], "age": [[2.0], [4.0]]}
    # 2 * 1 + 0.5 * 4 = 4, and (2 * 4 + 0.5 * 16) * 3 = 48
    assert losses_of(heads, labels, outputs, (1.0, 3.0)) == pytest.approx([4.0, 48.0])


@pytest.mark.parametrize(
    ("heads", "train", "named"),
    [
        ({"h": MULTICLASS}, {"class_weights": {"h": {"a": 3.0}}}, "train.class_weights.h would"),
        ({"h": BINARY, "k": TWICE}, {}, "heads.k.loss_weight would"),
    ],
)
def test_an_own_loss_that_would_drop_factors_is_refused(heads, train, named):
    config = config_of(heads, **train)
    message = f"loss: it replaces the losses of the heads, so {named}"
    with pytest.raises(UserCodeError, match=message):
        example_losses(config, ModelHooks(build_model=print, loss=print))


def test_class_weights_multiply_the_loss_of_their_class():
    weights = {"h": {"a": 3.0, "c": 0.5}}
    logits = [[math.log(1.0), math.log(2.0), math.log(5.0)]] * 2  # chances 1/8, 2/8, 5/8
    found = losses_of({"h": MULTICLASS}, {"h": [0, 1]}, {"h": logits}, class_weights=weights)
    assert found == pytest.approx([3 * math.log(8), math.log(4)], rel=1e-6)
