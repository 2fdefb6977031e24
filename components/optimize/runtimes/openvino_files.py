"""A core as OpenVINO's files: float32 (run in bf16 too, where the CPU can), and int8 by NNCF."""

import logging
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from components.optimize.runtimes.core import Core

FILE = "core.xml"
_CALIBRATION_ROWS = 300  # NNCF's own default


def make_openvino(core: Core, folder: Path) -> str:
    """Write a float32 model and return its file name."""
    openvino = _import_openvino()
    openvino.save_model(_converted(core), str(folder / FILE), compress_to_fp16=False)
    return FILE


def make_openvino_int8(core: Core, folder: Path) -> str:
    """Write a model with int8 weights and activations, calibrated on the core's feeds.

    NNCF's post-training quantisation: weights per channel, activations per tensor by the least and
    greatest value seen, with bias correction.
    """
    openvino = _import_openvino()
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    feeds = [dict(feed) for feed in core.feeds[:_CALIBRATION_ROWS]]
    with redirect_stdout(StringIO()):  # it draws a progress bar
        quantized = nncf.quantize(_converted(core), nncf.Dataset(feeds), subset_size=len(feeds))
    openvino.save_model(quantized, str(folder / FILE), compress_to_fp16=False)
    return FILE


def _converted(core: Core) -> Any:
    return _import_openvino().convert_model(str(core.saved))


def _import_openvino() -> Any:
    # Importing OpenVINO or NNCF tells their makers of it over the network, unless this is absent.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
