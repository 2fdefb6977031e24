"""The model: scaled numbers and embedded categories in, one dense net, logits (or a value) out."""

from typing import Any

import keras
from keras import layers, ops


def build_model(
    features: dict[str, keras.KerasTensor], hyperparameters: dict[str, Any]
) -> keras.Model:
    """Return a dense net over `*_scaled` and `*_id`; of a classification the output is logits."""
    columns = []
    for name, tensor in sorted(features.items()):
        if name.endswith("_id"):
            limit, size = hyperparameters["id_limit"], hyperparameters["embedding_size"]
            columns.append(layers.Embedding(limit, size)(tensor))
        else:
            columns.append(ops.expand_dims(tensor, -1))
    hidden = layers.Concatenate()(columns)
    for units in hyperparameters["hidden_units"]:
        hidden = layers.Dense(units, activation="relu")(hidden)
        hidden = layers.Dropout(hyperparameters["dropout"])(hidden)
    output = layers.Dense(hyperparameters["outputs"])(hidden)
    if "label_mean" in hyperparameters:  # a regression: the net learns values near 0
        mean, deviation = hyperparameters["label_mean"], hyperparameters["label_deviation"]
        output = layers.Rescaling(deviation, mean)(output)
    return keras.Model(inputs=features, outputs=output)
