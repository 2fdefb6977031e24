"""Preprocessing of MNIST: runs over the data before training, and inside the served model."""

import tensorflow as tf

BRIGHTEST = 255.0


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Scale pixels to [0, 1]; `image` is float32 `[batch, 28, 28]`, in and out."""
    return {"image": inputs["image"] / BRIGHTEST}
