"""The model of MNIST: a convolutional net small enough for two CPU cores."""

from typing import Any

import keras
from keras import layers

CLASSES = 10


def build_model(
    features: dict[str, keras.KerasTensor], hyperparameters: dict[str, Any]
) -> keras.Model:
    """Return a model from the image, float32 `[batch, 28, 28]`, to logits `[batch, 10]`."""
    hidden = layers.Reshape((28, 28, 1))(features["image"])
    for filters in hyperparameters["filters"]:
        hidden = layers.Conv2D(filters, 3, use_bias=False)(hidden)
        hidden = layers.MaxPooling2D()(hidden)  # before the rest: a quarter of the work for it
        hidden = layers.ReLU()(layers.BatchNormalization(momentum=0.95)(hidden))
        hidden = layers.Dropout(hyperparameters["filter_dropout"])(hidden)
    hidden = layers.Flatten()(hidden)
    for units in hyperparameters["hidden_units"]:
        hidden = layers.Dense(units, activation="relu")(hidden)
    hidden = layers.Dropout(hyperparameters["dropout"])(hidden)
    return keras.Model(inputs=features, outputs=layers.Dense(CLASSES)(hidden))


def optimizer(hyperparameters: dict[str, Any], steps: int) -> keras.optimizers.Optimizer:
    """Return Adam whose learning rate falls to nothing along a cosine: the last steps polish."""
    schedule = keras.optimizers.schedules.CosineDecay(hyperparameters["learning_rate"], steps)
    return keras.optimizers.Adam(schedule)
