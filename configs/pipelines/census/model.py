"""The model of census: wide and deep (Cheng et al. 2016, arXiv:1606.07792).

The wide part is one weight per id, which remembers single categories and crosses; the deep part
embeds the ids and generalises from them and from the numbers.
"""

from typing import Any

import keras
from keras import layers, ops


def build_model(
    features: dict[str, keras.KerasTensor], hyperparameters: dict[str, Any]
) -> keras.Model:
    """Return a model from `<number>_scaled` and `<name>_id` to one logit, `[batch, 1]`."""
    ids = {name: tensor for name, tensor in features.items() if name.endswith("_id")}
    scaled = [tensor for name, tensor in features.items() if name.endswith("_scaled")]
    numbers = layers.Concatenate()([ops.expand_dims(tensor, -1) for tensor in scaled])
    limit = hyperparameters["id_limit"]

    weights = [
        layers.Embedding(limit, 1, embeddings_initializer="zeros", name=f"{name}_weight")(tensor)
        for name, tensor in ids.items()
    ]
    wide = layers.Add()([*weights, layers.Dense(1, use_bias=False)(numbers)])

    size = hyperparameters["embedding_size"]
    embedded = [
        layers.Embedding(limit, size, name=f"{name}_vector")(tensor) for name, tensor in ids.items()
    ]
    deep = layers.Concatenate()([*embedded, numbers])
    for units in hyperparameters["hidden_units"]:
        deep = layers.Dense(units, activation="relu")(deep)
        deep = layers.Dropout(hyperparameters["dropout"])(deep)
    return keras.Model(inputs=features, outputs=layers.Add()([wide, layers.Dense(1)(deep)]))
