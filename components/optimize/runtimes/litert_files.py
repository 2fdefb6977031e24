"""A core as LiteRT's flat file, for servers with XNNPACK and for phones and embedded boards."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from components.optimize.runtimes.core import Core, Feed
from components.saved_models import RAW_SIGNATURE

FILE = "core.tflite"
_CALIBRATION_ROWS = 300


def make_litert(core: Core, folder: Path) -> str:
    """Write a float32 model and return its file name."""
    (folder / FILE).write_bytes(_converter(core).convert())
    return FILE


def make_litert_int8(core: Core, folder: Path) -> str:
    """Write a model with int8 weights and activations, calibrated on the core's feeds.

    What LiteRT cannot compute in int8 stays in float32; inputs and outputs are float32.
    """

    def representative() -> Iterator[tuple[str, Feed]]:
        for feed in core.feeds[:_CALIBRATION_ROWS]:
            yield RAW_SIGNATURE, dict(feed)

    converter = _converter(core)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    (folder / FILE).write_bytes(converter.convert())
    return FILE


def _converter(core: Core) -> tf.lite.TFLiteConverter:
    return tf.lite.TFLiteConverter.from_saved_model(str(core.saved), signature_keys=[RAW_SIGNATURE])
