"""LiteRT's (once TensorFlow Lite's) interpreters, with XNNPACK, as an `Engine`."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contract.records.optimization import EngineFiles
from serving.server.engines.cores import indexes, threads_per_call
from serving.server.engines.engine import Columns, Outputs

_FLOAT32_MAX = np.finfo(np.float32).max


@dataclass
class _Interpreter:
    """One thread's own: an interpreter is not safe to share."""

    interpreter: Any
    inputs: dict[str, int]
    outputs: dict[str, int]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def run(self, arrays: Columns) -> Outputs:
        shapes = {name: arrays[name].shape for name in self.inputs}
        if shapes != self.shapes:
            self.shapes = {}  # of no call, until the file has taken the new ones
            for name, index in self.inputs.items():
                self.interpreter.resize_tensor_input(index, shapes[name])
            self.interpreter.allocate_tensors()
            self.shapes = shapes
        for name, index in self.inputs.items():
            self.interpreter.set_tensor(index, arrays[name])
        self.interpreter.invoke()
        return {n: _unclamped(self.interpreter.get_tensor(i)) for n, i in self.outputs.items()}


def _unclamped(output: np.ndarray) -> np.ndarray:
    """Return an output with infinity where XNNPACK has put the largest float32 instead."""
    if output.dtype != np.float32:
        return output
    return np.where(np.abs(output) == _FLOAT32_MAX, np.copysign(np.inf, output), output)


class LiteRtEngine:
    """A `.tflite` file with one signature."""

    def __init__(self, path: Path, files: EngineFiles) -> None:
        """Load it once, to see that it loads.

        Raises:
            ValueError: If LiteRT cannot read the file, or it has other tensors.
            RuntimeError: If it has an operation that LiteRT does not know.
        """
        self._content = path.read_bytes()  # one copy for all threads
        self._files = files
        self._of_thread = threading.local()
        self._of_thread.interpreter = self._open()

    def run(self, arrays: Columns) -> Outputs:
        mine: _Interpreter | None = getattr(self._of_thread, "interpreter", None)
        if mine is None:
            mine = self._of_thread.interpreter = self._open()
        return mine.run(arrays)

    def _open(self) -> _Interpreter:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self._content, num_threads=threads_per_call())
        signatures = list(interpreter.get_signature_list())
        if len(signatures) != 1:
            raise ValueError(f"has the signatures {signatures}, expected exactly one")
        runner = interpreter.get_signature_runner(signatures[0])
        inputs = {n: int(detail["index"]) for n, detail in runner.get_input_details().items()}
        outputs = {n: int(detail["index"]) for n, detail in runner.get_output_details().items()}
        return _Interpreter(
            interpreter,
            indexes(inputs, self._files.core_inputs),
            indexes(outputs, self._files.core_outputs),
        )
