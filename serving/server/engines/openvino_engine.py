"""OpenVINO's compiled models as an `Engine`."""

import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contract.records.optimization import EngineFiles
from serving.server.engines.cores import indexes, threads_per_call
from serving.server.engines.engine import Columns, Outputs


class OpenVinoEngine:
    """A model compiled for this machine's CPU. Each thread has its own inference request."""

    def __init__(self, path: Path, files: EngineFiles, concurrent_calls: int) -> None:
        """Compile it.

        Raises:
            RuntimeError: If OpenVINO cannot read or compile the file.
            ValueError: If it has other tensors, or the CPU cannot compute in this precision.
        """
        # Importing OpenVINO tells its makers of it over the network, unless this package is absent.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        import openvino

        core = openvino.Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if files.precision == "bf16" and "BF16" not in able:
            raise ValueError(f"this CPU does not compute in bf16 (it can: {', '.join(able)})")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads_per_call() * concurrent_calls,
            "NUM_STREAMS": concurrent_calls,
            # Servers side by side would all be pinned to the same first core.
            "ENABLE_CPU_PINNING": False,
            # Where the CPU has bf16, OpenVINO would take it for float32 models unasked.
            "INFERENCE_PRECISION_HINT": "bf16" if files.precision == "bf16" else "f32",
        }
        self._model = core.compile_model(str(path), "CPU", settings)
        self._inputs = indexes(_places(self._model.inputs), files.core_inputs)
        self._outputs = indexes(_places(self._model.outputs), files.core_outputs)
        self._of_thread = threading.local()

    def run(self, arrays: Columns) -> Outputs:
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._model.create_infer_request()
        inputs = {index: arrays[name] for name, index in self._inputs.items()}
        request.infer(inputs, share_inputs=True, share_outputs=True)
        # Copied: the request's own buffers are overwritten by the next call.
        return {n: request.get_output_tensor(i).data.copy() for n, i in self._outputs.items()}


def _places(ports: Iterable[Any]) -> dict[str, int]:
    return {name: index for index, port in enumerate(ports) for name in port.get_names()}
