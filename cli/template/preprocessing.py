"""Raw features to what the model sees; the same graph runs in training and in serving."""

import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Centre every measurement and give it unit variance; each is a float32 tensor `[batch]`."""
    return {name: tft.scale_to_z_score(value) for name, value in inputs.items()}
