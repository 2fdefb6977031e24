"""What the benchmarks train: images as MNIST's are, a convnet, a large net, a slow one."""

import numpy as np
import tensorflow as tf

ROWS = 4096

SPEC = {"image": tf.io.FixedLenFeature([28, 28], tf.float32)}

PIPELINE = """
name: tiny
features:
  image: {dtype: float32, shape: [28, 28]}
heads:
  kind:
    task: multiclass_classification
    classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
ingest:
  source: {kind: csv, files: [rows.csv]}
train: {steps: 1, batch_size: 64, learning_rate: 0.001}
"""

CONVNET = """
import keras
from keras import layers

def build_model(features, hyperparameters):
    hidden = layers.Reshape((28, 28, 1))(features["image"])
    for filters in (32, 64):
        hidden = layers.Conv2D(filters, 3, activation="relu")(hidden)
        hidden = layers.MaxPooling2D()(hidden)
    hidden = layers.Dense(128, activation="relu")(layers.Flatten()(hidden))
    return keras.Model(inputs=features, outputs=layers.Dense(10)(hidden))
"""

DENSE = """
import keras
from keras import layers

def build_model(features, hyperparameters):  # 25.0 million parameters
    hidden = layers.Flatten()(features["image"])
    for units in (4096, 4096, 1200):
        hidden = layers.Dense(units, activation="relu")(hidden)
    return keras.Model(inputs=features, outputs=layers.Dense(10)(hidden))
"""

# A step of 0.05 s that costs no CPU, on the rows that the tests' runs have by default.
SLOW = """
import time
import keras

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)

def build_model(features, hyperparameters):
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(features["x"]))

def callbacks(hyperparameters, steps):
    return [Slow()]
"""


def images(split: str) -> list[dict[str, object]]:
    """Return `ROWS` examples of 28 x 28 floats (8 of other splits); four fifths of them black."""
    random = np.random.default_rng(1)
    count = ROWS if split == "train" else 8
    pixels = random.uniform(size=(count, 784)) * (random.uniform(size=(count, 784)) < 0.2)
    return [
        {"image": row, "label:kind": number % 10, "example_id": str(number)}
        for number, row in enumerate(np.round(pixels, 2).tolist())
    ]
