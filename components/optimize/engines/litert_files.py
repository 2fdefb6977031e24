"""A core as LiteRT's flat file, for servers with XNNPACK and for phones and embedded boards."""

import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from components.optimize.engines.core import Core, Feed, is_one_of
from components.optimize.engines.litert_ranges import in_litert_range
from components.optimize.graph.graphs import GraphModel
from contract.errors import DataError
from contract.model_io import DEFAULT_SIGNATURE

FILE = "core.tflite"
_CALIBRATION_ROWS = 300


@contextmanager
def _without_notice() -> Iterator[None]:
    """Ignore that TensorFlow's interpreter has a successor, which servers have; it calibrates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated")
        yield


def make_litert(core: Core, folder: Path) -> str:
    """Write a float32 model and return its file name."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        saved = Path(place) / "core"
        GraphModel({DEFAULT_SIGNATURE: in_litert_range(core.core)}, None, ()).save(saved)
        content = _converter(saved).convert()
    (folder / FILE).write_bytes(content)
    return FILE


@_without_notice()
def make_litert_int8(core: Core, folder: Path, float_layers: Collection[str] = ()) -> str:
    """Write a model with int8 weights and activations, calibrated on the core's feeds.

    What LiteRT cannot compute in int8 stays in float32, and layers in `float_layers`, by their
    names in the core's graph; inputs and outputs are float32.

    Raises:
        DataError: If LiteRT has joined one of `float_layers` with others under another name.
    """

    def representative() -> Iterator[tuple[str, Feed]]:
        for feed in core.feeds[:_CALIBRATION_ROWS]:
            yield DEFAULT_SIGNATURE, dict(feed)

    converter = _converter(core.saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    if not float_layers:
        (folder / FILE).write_bytes(converter.convert())
        return FILE
    # The converter's two halves, as TensorFlow's own QuantizationDebugger calls them: only the
    # second one takes names.
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    names = _outputs_of(calibrated, float_layers)
    (folder / FILE).write_bytes(mlir_quantize(calibrated, denylisted_nodes=names))
    return FILE


def _outputs_of(model: bytes, layers: Collection[str]) -> list[str]:
    """Return the tensors that the operations of some layers make, by LiteRT's names."""
    interpreter = tf.lite.Interpreter(model_content=model)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    made = [names[i] for op in interpreter._get_ops_details() for i in op["outputs"]]
    for layer in layers:
        if not any(is_one_of(name, [layer]) for name in made):
            raise DataError(f"LiteRT has no operation of the name '{layer}' to leave in float")
    return [name for name in made if is_one_of(name, layers)]


def _converter(saved: Path) -> tf.lite.TFLiteConverter:
    return tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[DEFAULT_SIGNATURE])
