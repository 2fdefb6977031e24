"""A core compiled ahead of time by XLA: objects and a header for C++ programs, and a C library.

TensorFlow's own ahead-of-time compiler (the one of `saved_model_cli aot_compile_cpu`) writes the
code; each number of rows is compiled by itself, because XLA knows fixed shapes only. An export, not
an engine of the server: on CPU, LiteRT and OpenVINO are faster, and take any number of rows.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from components.models.tensorflow_internals import SAVED_MODEL_CLI
from components.optimize.engines.core import Core
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.runs.child_process import tied_to_parent
from contract.errors import DataError
from contract.model_io import DEFAULT_SIGNATURE

HEADER, SOURCE, LIBRARY = "slipway_model.h", "slipway_model.cc", "libslipway_model.so"
CALLER = "caller.c"
_PREFIX = "model"
_COMPILERS = ("c++", "g++", "clang++")
_COMPILE_SECONDS = 1200.0
_TYPES = {
    "float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t", "bool": "bool"
}  # fmt: skip
# What every compiled model needs of XLA's runtime, and what only those that include the header do.
_RUNTIME = (
    "tensorflow/compiler/tf2xla/xla_compiled_cpu_function.cc",
    "tensorflow/compiler/tf2xla/allocator.cc",
    "xla/backends/cpu/runtime/rng_state_lib.cc",
    "xla/executable_run_options.cc",
    "xla/service/custom_call_status.cc",
)
_MORE_RUNTIME = {
    "convolution_lib.h": ("xla/backends/cpu/runtime/convolution_lib_*.cc", "*contraction*.cc"),
    "dot_lib.h": ("xla/backends/cpu/runtime/dot_lib_*.cc", "*contraction*.cc"),
    "sort_lib.h": ("xla/backends/cpu/runtime/sort_lib.cc",),
}


def make_xla_aot(core: Core, batch_sizes: Sequence[int], folder: Path) -> None:
    """Write `<rows>/` for each number of rows: objects, headers, sources and shared library.

    The library's one function takes and gives the core's arrays; see the header, and `caller.c` for
    a whole program around it. It needs Abseil at
    run time, which `libtensorflow_framework.so.2` holds.

    Raises:
        DataError: If there is no C++ compiler, a size besides the rows is open, or compiling fails.
    """
    inputs_of = {
        rows: {n: (t, _fixed(spec, rows)) for n, (t, spec) in core.core.inputs.items()}
        for rows in batch_sizes
    }
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise DataError(f"no C++ compiler on the path (looked for {', '.join(_COMPILERS)})")
    for rows, inputs in inputs_of.items():
        target = folder / str(rows)
        target.mkdir(parents=True)
        fixed = replace(core.core, inputs=inputs)
        outputs = _compile_objects(fixed, target)
        arrays = {n: spec for n, (_, spec) in inputs.items()}
        _write_interface(arrays, outputs, target)
        (target / CALLER).write_text(_caller(arrays, outputs), encoding="utf-8")
        _compile_library(compiler, target)


def _fixed(spec: tf.TensorSpec, rows: int) -> tf.TensorSpec:
    sizes = spec.shape.as_list()
    if not sizes or sizes[0] is not None or None in sizes[1:]:
        raise DataError(
            f"input '{spec.name}' has shape {sizes}: XLA needs every size but the rows fixed"
        )
    if spec.dtype.name not in _TYPES:
        raise DataError(f"input '{spec.name}' is {spec.dtype.name}, expected one of {[*_TYPES]}")
    return tf.TensorSpec([rows, *sizes[1:]], spec.dtype, spec.name)


def _compile_objects(core: SignatureGraph, target: Path) -> dict[str, tf.TensorSpec]:
    """Write `model.h` and the objects; return the outputs with their shapes."""
    function = core.concrete()
    saved = target / "saved_model"
    GraphModel({DEFAULT_SIGNATURE: core}, None, ()).save(saved)
    options = {
        "dir": saved,
        "tag_set": "serve",
        "signature_def_key": DEFAULT_SIGNATURE,
        "output_prefix": target / _PREFIX,
        "cpp_class": "slipway::Model",
        "target_triple": "x86_64-pc-linux" if os.uname().machine == "x86_64" else "",
    }
    # In a separate process: XLA reads the flags that this compiler sets once, when it starts.
    command = [sys.executable, "-m", SAVED_MODEL_CLI, "aot_compile_cpu"]
    command += [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        tied_to_parent(command),
        capture_output=True,
        text=True,
        timeout=_COMPILE_SECONDS,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DataError(f"TensorFlow's ahead-of-time compiler failed: {last}")
    shutil.rmtree(saved)
    outputs: Mapping[str, tf.Tensor] = function.structured_outputs
    return {name: tf.TensorSpec(t.shape, t.dtype, name) for name, t in outputs.items()}


def _write_interface(
    inputs: Mapping[str, tf.TensorSpec], outputs: Mapping[str, tf.TensorSpec], target: Path
) -> None:
    """Write the header and source of `slipway_model_run`, plain C from outside."""
    arguments = [f"const {_TYPES[s.dtype.name]}* {_name(n)}" for n, s in inputs.items()]
    arguments += [f"{_TYPES[s.dtype.name]}* {_name(n)}" for n, s in outputs.items()]
    declaration = f"int slipway_model_run({', '.join(arguments)})"
    shapes = "".join(
        f" * {_name(name)}: {spec.dtype.name} {spec.shape.as_list()}\n"
        for name, spec in [*inputs.items(), *outputs.items()]
    )
    (target / HEADER).write_text(
        "/* Runs the model; returns 0, or 1 if it failed. Threads may call it at once.\n"
        f"{shapes} */\n#include <stdbool.h>\n#include <stdint.h>\n"
        f'#ifdef __cplusplus\nextern "C"\n#endif\n{declaration};\n',
        encoding="utf-8",
    )
    copies_in = "".join(
        f"  std::memcpy(model.arg_feed_{_name(n)}_data(), {_name(n)}, "
        f"model.arg_feed_{_name(n)}_size());\n"
        for n in inputs
    )
    copies_out = "".join(
        f"  std::memcpy({_name(n)}, model.result_fetch_{_name(n)}_data(), "
        f"model.result_fetch_{_name(n)}_size());\n"
        for n in outputs
    )
    (target / SOURCE).write_text(
        f'#include <cstring>\n#include "{_PREFIX}.h"\n#include "{HEADER}"\n\n'
        f"{declaration} {{\n  static thread_local slipway::Model model;\n{copies_in}"
        f"  if (!model.Run()) return 1;\n{copies_out}  return 0;\n}}\n",
        encoding="utf-8",
    )


def _caller(inputs: Mapping[str, tf.TensorSpec], outputs: Mapping[str, tf.TensorSpec]) -> str:
    """Return a C program that runs the model once, from standard input to standard output."""
    arrays = [f"input_{_name(n)}" for n in inputs] + [f"output_{_name(n)}" for n in outputs]
    specs = [*inputs.values(), *outputs.values()]
    buffers = "".join(
        f"static {_TYPES[spec.dtype.name]} {array}[{spec.shape.num_elements()}];\n"
        for array, spec in zip(arrays, specs, strict=True)
    )
    reads = "".join(
        f"  if (fread({array}, sizeof {array}, 1, stdin) != 1) return 2;\n"
        for array in arrays[: len(inputs)]
    )
    writes = "".join(
        f"  if (fwrite({array}, sizeof {array}, 1, stdout) != 1) return 3;\n"
        for array in arrays[len(inputs) :]
    )
    return (
        "/* Reads the inputs as raw numbers, runs the model once and writes the outputs likewise.\n"
        "   cc caller.c -L. -lslipway_model -Wl,-rpath,$PWD -o caller && ./caller < in > out */\n"
        f'#include <stdio.h>\n#include "{HEADER}"\n\n{buffers}\nint main(void) {{\n{reads}'
        f"  if (slipway_model_run({', '.join(arrays)})) return 1;\n{writes}  return 0;\n}}\n"
    )


def _compile_library(compiler: str, target: Path) -> None:
    root = Path(tf.sysconfig.get_lib())
    runtime = root / "xla_aot_runtime_src"
    header = (target / f"{_PREFIX}.h").read_text(encoding="utf-8")
    more = [g for name, globs in _MORE_RUNTIME.items() if name in header for g in globs]
    sources = [runtime / name for name in _RUNTIME]
    sources += [path for glob in dict.fromkeys(more) for path in sorted(runtime.rglob(glob))]
    command = [compiler, "-std=c++17", "-O2", "-fPIC", "-DNDEBUG", "-w", "-shared"]
    command += [f"-I{target}", f"-I{root / 'include'}", f"-I{runtime}", str(target / SOURCE)]
    command += [*map(str, sources), *map(str, sorted(target.glob(f"{_PREFIX}*.o")))]
    command += [f"-L{root}", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{root}"]
    done = subprocess.run(
        [*command, "-Wl,--no-undefined", "-o", str(target / LIBRARY)],
        capture_output=True,
        text=True,
        timeout=_COMPILE_SECONDS,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DataError(f"{compiler} could not compile the library: {said}")


def _name(name: str) -> str:
    """Return a tensor's name as XLA writes it into C++."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
