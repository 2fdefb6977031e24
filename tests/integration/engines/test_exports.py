"""Files for elsewhere: they are made, loaded by something that is not ours, and answer alike."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.optimize.chain import Data
from components.optimize.engines.core import Core
from components.optimize.engines.engines import add_engines
from components.optimize.engines.xla_aot import CALLER, LIBRARY, make_xla_aot
from components.optimize.judging.judgement import Evaluation
from contract.errors import DataError
from contract.records.optimization import OptimizeRecord
from contract.schema.optimize import EnginesConfig


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler on this machine")
def test_the_compiled_library_answers_like_tensorflow(
    digits: Any, cores: Callable[[Any], Core], tmp_path: Path
) -> None:
    # XLA is at work in this process, and has read its flags
    tf.function(lambda x: x @ x, jit_compile=True)(tf.ones([8, 8]))
    make_xla_aot(cores(digits), [4], tmp_path / "aot")
    folder = tmp_path / "aot" / "4"
    files = {"model.h", "model.o", "model_constants.o", "slipway_model.h", "slipway_model.cc"}
    files |= {LIBRARY, CALLER}
    assert files <= {p.name for p in folder.iterdir()}
    assert "image: float32 [4, 8, 8]" in (folder / "slipway_model.h").read_text()
    rows = np.ascontiguousarray(digits.rows["image"][8:12])
    link = ["-L.", "-lslipway_model", f"-Wl,-rpath,{folder}", "-o", "caller"]
    subprocess.run(["c++", "-x", "c", CALLER, "-x", "none", *link], cwd=folder, check=True)
    answered = subprocess.run([folder / "caller"], input=rows.tobytes(), stdout=subprocess.PIPE)
    assert answered.returncode == 0
    scores = np.frombuffer(answered.stdout, np.float32).reshape(4, 10)
    np.testing.assert_allclose(scores, digits.answers()["scores"][8:12], atol=1e-5)
    short = subprocess.run([folder / "caller"], input=rows.tobytes()[:-1], check=False)
    assert short.returncode == 2


def test_without_a_compiler_the_reason_is_given(
    digits: Any, cores: Callable[[Any], Core], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"no C\+\+ compiler on the path \(looked for c\+\+, g\+\+"):
        make_xla_aot(cores(digits), [1], tmp_path / "aot")


def test_sizes_that_only_callers_know_cannot_be_compiled(
    parcels: Any, cores: Callable[[Any], Core], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="XLA needs every size but the rows fixed"):
        make_xla_aot(cores(parcels), [1], tmp_path / "aot")


def test_exports_are_kept_beside_the_model(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(digits.path, tmp_path / "model")
    monkeypatch.setenv("PATH", os.devnull)  # so that xla_aot cannot be made
    settings = EnginesConfig(candidates=("tensorflow",), exports=("litert", "xla_aot"))
    rows = {"image": digits.rows["image"][:8]}
    data = Data({"serving_default": rows}, Evaluation("serving_default", rows))
    record = add_engines(OptimizeRecord(model="model", ledger=()), data, settings, tmp_path)
    assert record.engine.exports == {"litert": "exports/litert"}
    assert "no C++ compiler" in record.engine.exports_left_out["xla_aot"]
    from ai_edge_litert.interpreter import Interpreter

    file = str(tmp_path / "exports" / "litert" / "core.tflite")
    runner = Interpreter(file).get_signature_runner("serving_default")
    found = runner(image=rows["image"])["scores"]
    np.testing.assert_allclose(found, digits.answers()["scores"][:8], atol=1e-5)
