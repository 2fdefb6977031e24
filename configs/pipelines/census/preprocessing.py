"""Preprocessing of census: runs over the data before training, and inside the served model.

What the model receives:
    `<number>_scaled`    float32 `[batch]`, mean 0 and deviation 1 over the train split
    `<name>_id`          int64 `[batch]`, in [0, ID_LIMIT): categories, buckets and crosses
"""

import tensorflow as tf
import tensorflow_transform as tft

ID_LIMIT = 1024  # as hyperparameters.id_limit in pipeline.yaml; embeddings need to know

CATEGORIES = (
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
)
NUMBERS = ("age", "education_num", "hours_per_week")
SKEWED_NUMBERS = ("capital_gain", "capital_loss", "fnlwgt")  # a few are huge: take the logarithm
BUCKETS = {"age": 16, "hours_per_week": 8, "fnlwgt": 8}
CROSSES = (
    ("education", "occupation"),
    ("age", "education"),
    ("marital_status", "age"),
    ("occupation", "hours_per_week"),
    ("relationship", "education"),
    ("workclass", "occupation"),
)


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Turn raw columns (`[batch]` each) into scaled numbers and ids (`[batch]` each)."""
    numbers = {name: tf.cast(inputs[name], tf.float32) for name in NUMBERS}
    numbers |= {name: tf.math.log1p(tf.cast(inputs[name], tf.float32)) for name in SKEWED_NUMBERS}
    outputs = {f"{name}_scaled": tft.scale_to_z_score(value) for name, value in numbers.items()}
    for name in CATEGORIES:
        outputs[f"{name}_id"] = _id(inputs[name], name)
    # Tax rules make single amounts of capital gain and loss telling: each amount is a category.
    for name in ("capital_gain", "capital_loss"):
        outputs[f"{name}_id"] = _id(tf.strings.as_string(inputs[name]), name)
    buckets = {
        name: tft.bucketize(inputs[name], count, name=f"{name}_buckets")
        for name, count in BUCKETS.items()
    }
    outputs |= {f"{name}_bucket_id": bucket for name, bucket in buckets.items()}
    for left, right in CROSSES:
        parts = [
            tf.strings.as_string(buckets[name]) if name in buckets else inputs[name]
            for name in (left, right)
        ]
        crossed = tf.strings.join(parts, separator="|")
        outputs[f"{left}_{right}_id"] = tf.strings.to_hash_bucket_fast(crossed, ID_LIMIT)
    return outputs


def _id(values: tf.Tensor, name: str) -> tf.Tensor:
    """Number the values seen in training by frequency; unseen ones share the last id."""
    return tft.compute_and_apply_vocabulary(
        values, top_k=ID_LIMIT - 1, num_oov_buckets=1, vocab_filename=name
    )
