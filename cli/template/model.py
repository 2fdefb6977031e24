"""The model: transformed features in, logits out."""

from typing import Any

import keras


def build_model(
    features: dict[str, keras.KerasTensor], hyperparameters: dict[str, Any]
) -> keras.Model:
    """Return a small dense net; `features` are ready-made keras.Inputs, the output is logits."""
    columns = [
        value if len(value.shape) > 1 else keras.layers.Reshape((1,))(value)
        for _, value in sorted(features.items())
    ]
    hidden = keras.layers.Concatenate()(columns)
    hidden = keras.layers.Dense(hyperparameters["units"], activation="relu")(hidden)
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))
