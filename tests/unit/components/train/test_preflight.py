"""What a training lacks on this machine is said beforehand."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from components.train.preflight import training_problems, training_warnings, version_problems
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig


def config(**train: Any) -> PipelineConfig:
    return PipelineConfig.model_construct(train=TrainConfig(**train))  # type: ignore[call-arg]


def test_mpi_without_mpirun_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = training_problems(config(strategy="mpi"))
    assert "no 'mpirun' on PATH; install OpenMPI" in problem
    assert not list(training_problems(config(strategy="multi_worker")))


def test_mpi_without_its_library_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mpirun").touch(mode=0o755)
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").touch()
    (tmp_path / "mpi4py" / "MPI.py").write_text("raise RuntimeError('cannot load MPI library')")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mpi4py"]:
        monkeypatch.delitem(sys.modules, name)
    (problem,) = training_problems(config(strategy="mpi"))
    assert "mpi4py does not load MPI's library: cannot load MPI library" in problem


@pytest.mark.parametrize(
    ("train", "warning"),
    [
        ({"strategy": "multi_worker", "all_reduce": "nccl"}, "nccl works between GPUs"),
        ({"precision": "mixed_float16"}, "mixed_float16 is slower than float32 on CPUs"),
    ],
)
def test_what_wants_a_gpu_is_warned_of_where_there_is_none(
    train: dict[str, object], warning: str
) -> None:
    (found,) = training_warnings(config(**train), gpus=lambda: 0)
    assert warning in found
    assert not list(training_warnings(config(**train), gpus=lambda: 1))


def test_horovod_beside_a_new_tensorflow_is_named():
    (problem,) = version_problems({"tensorflow": "2.21.0", "keras": "3.15.1", "horovod": "0.28.1"})
    assert "horovod 0.28.1 does not work with TensorFlow 2.21.0" in problem
    assert not list(version_problems({"tensorflow": "2.15.1", "keras": "3.0", "horovod": "0.28"}))


def test_keras_2_is_named():
    (problem,) = version_problems({"tensorflow": "2.21.0", "keras": "2.15.0"})
    assert "keras 2.15.0: training is written for Keras 3" in problem


@pytest.mark.parametrize(
    "train",
    [
        {"strategy": "single"},
        {"strategy": "mpi"},
        {"strategy": "parameter_server"},
        {"strategy": "multi_worker", "all_reduce": "ring"},
    ],
)
def test_gpus_that_a_strategy_would_leave_idle_are_counted(train: dict[str, object]) -> None:
    (warning,) = training_warnings(config(**train), gpus=lambda: 4)
    assert "drives one GPU in each process, and this machine has 4" in warning
    assert list(training_warnings(config(**train), gpus=lambda: 1)) == []


@pytest.mark.parametrize(
    "train", [{"strategy": "mirrored"}, {"strategy": "multi_worker", "all_reduce": "nccl"}]
)
def test_strategies_that_use_every_gpu_are_not_warned_of(train: dict[str, object]) -> None:
    assert list(training_warnings(config(**train), gpus=lambda: 4)) == []
