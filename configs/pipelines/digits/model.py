"""The model of digits: a dense net, or a convolutional one, as `hyperparameters` say."""

from typing import Any

import keras
from keras import layers

CLASSES = 10


def build_model(
    features: dict[str, keras.KerasTensor], hyperparameters: dict[str, Any]
) -> keras.Model:
    """Return a model from the image, float32 `[batch, 8, 8]` in [0, 1], to logits `[batch, 10]`."""
    bodies = {"dense": _dense, "convolutional": _convolutional}
    body = bodies[hyperparameters["architecture"]]
    hidden = body(features["image"], hyperparameters)
    for units in hyperparameters["hidden_units"]:
        hidden = layers.Dense(units, activation="relu")(hidden)
    hidden = layers.Dropout(hyperparameters["dropout"])(hidden)
    return keras.Model(inputs=features, outputs=layers.Dense(CLASSES)(hidden))


def _dense(image: keras.KerasTensor, _hyperparameters: dict[str, Any]) -> keras.KerasTensor:
    return layers.Flatten()(image)


def _convolutional(image: keras.KerasTensor, hyperparameters: dict[str, Any]) -> keras.KerasTensor:
    hidden = layers.Reshape((8, 8, 1))(image)
    for filters in hyperparameters.get("filters", (32, 64)):
        hidden = layers.Conv2D(filters, 3, padding="same", activation="relu")(hidden)
    return layers.Flatten()(layers.MaxPooling2D()(hidden))
