"""Raw columns to what the model sees; the same graph runs in training and in serving."""

import tensorflow as tf
import tensorflow_transform as tft

ID_LIMIT = 1024  # as hyperparameters.id_limit in pipeline.yaml: embeddings need to know


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Give numbers mean 0 and variance 1, and number categories by how often they occur.

    Each input is `[batch]`. Outputs are `<name>_scaled`, float32, and `<name>_id`, int64 in
    [0, ID_LIMIT): the last id stands for every category that training has not seen.
    """
    outputs = {}
    for number, (name, value) in enumerate(sorted(inputs.items())):
        if value.dtype == tf.string:
            outputs[f"{name}_id"] = tft.compute_and_apply_vocabulary(
                value,
                top_k=ID_LIMIT - 1,
                num_oov_buckets=1,
                vocab_filename=f"categories_{number}",
            )
        else:
            outputs[f"{name}_scaled"] = tft.scale_to_z_score(tf.cast(value, tf.float32))
    return outputs
