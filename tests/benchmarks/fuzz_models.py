"""The models under attack: one that a pipeline made, and one of several signatures."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench_envoy import PIPELINE

from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

_SIGNATURES = {
    "": ("x",),
    "serving_default": ("x", "tags", "n"),
    "classify": ("inputs",),
    "words": ("text", "ids"),
    "no_such_signature": ("x",),
}
INPUTS = ("x", "tags", "n", "text", "ids", "inputs", "y")


def any_signature(chance: random.Random) -> tuple[str, Sequence[str]]:
    """Return a signature, and inputs that are mostly its own."""
    signature, inputs = chance.choice([*_SIGNATURES.items()])
    is_fit = chance.random() < 0.7
    return signature, inputs if is_fit else chance.sample(INPUTS, chance.randrange(1, 4))


def add_package(layout: PipelineLayout) -> None:
    """Package a model of a number, of words of any length, and of a whole number."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None, None], tf.string, name="tags"),
            tf.TensorSpec([None], tf.int64, name="n"),
        ]
    )
    def serving_default(x: tf.Tensor, tags: tf.Tensor, n: tf.Tensor) -> dict[str, tf.Tensor]:
        unused = tf.reduce_sum(tf.strings.length(tags), axis=1) + tf.cast(n, tf.int32)
        return {
            "scores": tf.stack([x, 1.0 - x], axis=1) + 0.0 * tf.cast(unused, tf.float32)[:, None]
        }

    folder = layout.version(1)
    tf.saved_model.save(module, str(folder / "model"), {"serving_default": serving_default})
    PackageManifest(
        pipeline=PIPELINE,
        version=1,
        created_at=datetime.now(UTC),
        digest=digest_directory(folder / "model"),
        inputs={
            "x": InputSpec(dtype="float32"),
            "tags": InputSpec(dtype="string", is_variable_length=True),
            "n": InputSpec(dtype="int64", default=0),
        },
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("a", "b"))},
        serve=ServeConfig(drain_seconds=2.0, grpc=True),
        provenance=Provenance(run_id="bench", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")


def save_foreign_model(folder: Path) -> None:
    """Save a model that answers rows, classifies tf.Examples, and fails at words that are wrong."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serving_default(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.stack([x, 1.0 - x], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {
            "x": tf.io.FixedLenFeature([1], tf.float32),
            "tags": tf.io.VarLenFeature(tf.string),
        }
        x = tf.io.parse_example(inputs, features)["x"]
        return {"scores": x, "classes": tf.strings.as_string(x)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="text"),
            tf.TensorSpec([None, 3], tf.int64, name="ids"),
        ]
    )
    def words(text: tf.Tensor, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        numbers = tf.strings.to_number(text)
        return {"numbers": numbers, "known": tf.gather([1.0, 2.0], ids), "text_bytes": text}

    signatures = {"serving_default": serving_default, "classify": classify, "words": words}
    tf.saved_model.save(module, str(folder), signatures)
    # `save` writes "predict" for all of them.
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    definition = saved.meta_graphs[0].signature_def["classify"]
    definition.method_name = "tensorflow/serving/classify"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
