"""What `bench_optimize.py` makes of each model: by us, frozen only, and by others alone."""

import contextlib
import functools
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from optimize_models import SIGNATURE, Subject

from components.optimize.engines.core import Core
from components.optimize.engines.kinds import KINDS, make
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.judgement import Evaluation
from components.optimize.optimize import Data, optimize
from contract.schema.optimize import OptimizeConfig
from contract.storage import size_bytes
from serving.server.engines.opening import open_model

FLOAT_PASSES = (
    "freeze_graph", "strip_unused_nodes", "fold_constants", "remove_nodes", "fold_batch_norms",
    "merge_duplicate_nodes", "grappler",
)  # fmt: skip

Call = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Made:
    """One variant: how to call it, how large it is, and what making and loading it took."""

    call: Call
    size_bytes: int
    cpu_seconds: float
    wall_seconds: float


class Maker:
    """Makes all variants of one model; one that cannot be made is reported and left out."""

    def __init__(self, name: str, subject: Subject, folder: Path) -> None:
        self.name, self.subject, self.folder = name, subject, folder
        self.made: dict[str, Made] = {}

    def all(self) -> dict[str, Made]:
        plain, optimized = self.subject.path, self.folder / "optimized" / "model"
        self._add("tensorflow_plain", plain, lambda: None)
        self._add("tensorflow_frozen", self.folder / "frozen", self._freeze)
        self._add("ours_tensorflow", optimized, lambda: self._optimize("optimized", FLOAT_PASSES))
        with_int8 = (*FLOAT_PASSES, "quantize_weights")
        int8 = self.folder / "int8" / "model"
        self._add("ours_tensorflow_int8_weights", int8, lambda: self._optimize("int8", with_int8))
        self._cores(
            optimized,
            "ours",
            ("openvino", "openvino_bf16", "openvino_int8", "litert", "litert_int8"),
        )
        self._cores(plain, "peer", ("openvino_int8", "litert", "litert_int8"))
        self._onnx()
        return self.made

    def rounded_ratio(self, num_steps: int) -> float:
        """Return the compressed size after `round_weights` over the plain SavedModel's size."""
        name, rounding = f"rounded_{num_steps}", {"round_weights": {"num_steps": num_steps}}
        self._optimize(name, ("freeze_graph", "fold_batch_norms", rounding))
        files = sorted(p for p in (self.folder / name / "model").rglob("*") if p.is_file())
        compressed = zlib.compress(b"".join(p.read_bytes() for p in files), 9)
        return len(compressed) / size_bytes(self.subject.path)

    def _freeze(self) -> None:
        frozen = GraphModel.lift(self.subject.path).rewritten(lambda signature: signature.frozen())
        frozen.save(self.folder / "frozen")

    def _optimize(self, name: str, passes: tuple[Any, ...]) -> None:
        samples = {SIGNATURE: self.subject.rows}
        data = Data(samples, Evaluation(SIGNATURE, self.subject.rows))
        settings = OptimizeConfig(
            passes=passes,
            min_gain_ratio=0.0,
            budget_percent=100.0,
            tolerance=self.subject.tolerance,
        )
        optimize(self.subject.path, data, settings, self.folder / name)

    def _cores(self, model: Path, whose: str, names: tuple[str, ...]) -> None:
        parts = self.folder / f"{whose}_parts"
        parts.mkdir()
        rows = {n: v[:64] for n, v in self.subject.rows.items()}
        core = Core.of(model, rows, parts)
        for name in names:
            folder = self.folder / f"{whose}_{name}"

            def create(name: str = name, folder: Path = folder) -> None:
                folder.mkdir()
                make(core, KINDS[name], folder)

            self._add(f"{whose}_{name}", folder, create, is_core=True)

    def _add(
        self, name: str, path: Path, create: Callable[[], None], is_core: bool = False
    ) -> None:
        started = now()
        model, other = (self.subject.path, path) if is_core else (path, None)
        try:
            with quiet():
                create()
                opened = open_model(model, other, {}, 1)
            taken = [after - before for before, after in zip(started, now(), strict=True)]
            call = functools.partial(opened.call, SIGNATURE)
            call({n: v[:2] for n, v in self.subject.rows.items()})
            self.made[name] = Made(call, size_bytes(path), *taken)
        except Exception as error:  # noqa: BLE001 (a variant that fails is a finding)
            self._left_out(name, error)

    def _onnx(self) -> None:
        """Add ONNX Runtime, float32 and int8; tf2onnx takes no strings."""
        started = now()
        try:
            with quiet():
                float_file, int8_file = onnx_files(self.subject, self.folder)
            for name, file in (("float32", float_file), ("int8", int8_file)):
                taken = [after - before for before, after in zip(started, now(), strict=True)]
                self.made[f"peer_onnxruntime_{name}"] = Made(
                    onnx_call(file), file.stat().st_size, *taken
                )
        except Exception as error:  # noqa: BLE001 (as above)
            self._left_out("peer_onnxruntime", error)

    def _left_out(self, name: str, error: Exception) -> None:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        print(
            json.dumps({"name": f"optimize_{self.name}_{name}", "left_out": said[:200]}), flush=True
        )


def now() -> tuple[float, float]:
    """Return CPU seconds of this process, and seconds by the clock."""
    return time.process_time(), time.perf_counter()


def onnx_files(subject: Subject, folder: Path) -> tuple[Path, Path]:
    """Convert the plain SavedModel and quantise it as ONNX Runtime's documentation says."""
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = GraphModel.lift(subject.path).signatures[SIGNATURE].frozen()
    if any(spec.dtype == tf.string for _, spec in graph.inputs.values()):
        raise ValueError("tf2onnx has no lookup tables of text")
    model, _ = tf2onnx.convert.from_graph_def(
        graph.graph_def, input_names=[t for t, _ in graph.inputs.values()],
        output_names=[t for t, _ in graph.outputs.values()], opset=17,
    )  # fmt: skip
    plain, prepared, quantized = (folder / f"{n}.onnx" for n in ("plain", "prepared", "int8"))
    plain.write_bytes(model.SerializeToString())
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            (tensor, _), (rows,) = next(iter(graph.inputs.values())), subject.rows.values()
            self.feeds = iter([{tensor: rows[i : i + 1]} for i in range(64)][: len(rows)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    quantize_static(str(prepared), str(quantized), Reader(), QuantFormat.QDQ, per_channel=True)
    return plain, quantized


def onnx_call(file: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    return lambda inputs: {"scores": session.run(None, {name: next(iter(inputs.values()))})[0]}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep converters from printing between the JSON lines."""
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink):
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
