"""What is said of a machine before a training costs anything on it."""

import pytest

from components.train import preflight
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig


def warnings(monkeypatch: pytest.MonkeyPatch, gpus: int, **train: object) -> list[str]:
    monkeypatch.setattr(preflight, "_gpus", lambda: gpus)
    config = PipelineConfig.model_construct(train=TrainConfig(**train))
    return list(preflight.training_warnings(config))


@pytest.mark.parametrize(
    "train",
    [
        {"strategy": "single"},
        {"strategy": "mpi"},
        {"strategy": "parameter_server"},
        {"strategy": "multi_worker", "all_reduce": "ring"},
    ],
)
def test_gpus_that_a_strategy_would_leave_idle_are_counted(monkeypatch, train):
    (warning,) = warnings(monkeypatch, 4, **train)
    assert "drives one GPU in each process, and this machine has 4" in warning
    assert warnings(monkeypatch, 1, **train) == []


@pytest.mark.parametrize(
    "train", [{"strategy": "mirrored"}, {"strategy": "multi_worker", "all_reduce": "nccl"}]
)
def test_strategies_that_use_every_gpu_are_not_warned_of(monkeypatch, train):
    assert warnings(monkeypatch, 4, **train) == []
