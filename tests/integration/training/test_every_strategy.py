"""The shipped pipelines reach the same accuracy under every strategy, in real processes."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import warm

from components.evaluate.evaluate import Evaluation, evaluate
from components.runs.tracking import Tracker
from contract.command import StepCommand
from contract.layout import RunLayout
from contract.loader import freeze_pipeline, load_frozen
from contract.pipelines import find_pipeline
from contract.records.data import TransformRecord
from contract.records.evaluation import EvaluateRecord, Metric, Verdict
from contract.records.record import Result
from contract.storage import Attempt
from launching.processes.role_processes import command_line

STRATEGIES: dict[str, dict[str, Any]] = {
    "single": {},
    "mirrored": {},
    "multi_worker": {"train.workers": 2},
    "mpi": {"train.workers": 2},
    "parameter_server": {"train.workers": 2, "train.parameter_servers": 1},
}
LATE_GRADIENTS = 0.02
LEAST_ACCURACY = 0.9
DIGITS = {"train.steps": 600, "train.checkpoint_every_steps": 300}
MNIST = {
    "train.steps": 160,
    "train.checkpoint_every_steps": 80,
    "ingest.test_source": None,
    "ingest.split": {"train": 0.8, "eval": 0.1, "test": 0.1},
}

# What each strategy computes is compared number by number in test_roles.py.
pytestmark = [pytest.mark.long, pytest.mark.thorough]


def call(warm_parent: Path, command: StepCommand) -> None:
    run = RunLayout(Path(command.root), command.pipeline, command.run_id)
    words, lock = command_line(command, run), run.process_lock(command.step)
    code, said = warm.run(warm_parent, words, lock, warm.environment_of())
    assert code == 0, f"{command.step}: {said[-5000:]}"


def accuracy(
    warm_parent: Path, prepared: StepCommand, strategy: str, overrides: dict[str, Any]
) -> Metric:
    """Train a copy of a prepared run under a strategy; return what its last checkpoint reached."""
    source = RunLayout(Path(prepared.root), prepared.pipeline, prepared.run_id)
    run = replace(source, run_id=strategy)
    shutil.copytree(source.path, run.path)
    shutil.rmtree(run.frozen_pipeline)
    settings = overrides | STRATEGIES[strategy] | {"train.strategy": strategy}
    freeze_pipeline(find_pipeline(run.pipeline), run, settings)
    call(warm_parent, StepCommand("train", run.pipeline, run.run_id, prepared.root))
    assert len(judge(run).steps) == 2
    (head,) = Verdict.read(run.verdict(overrides["train.steps"])).metrics.values()
    return head["accuracy"]


def judge(run: RunLayout) -> EvaluateRecord:
    """Judge the checkpoints in this process, which has TensorFlow already."""
    transformed = Result.read(run.result("transform")).detail_as(TransformRecord)
    attempt = Attempt.claim(run.attempts("evaluate"))
    return evaluate(Evaluation(load_frozen(run), run, transformed, Tracker(), attempt))[0]


def check(warm_parent: Path, pipeline: str, root: Path, overrides: dict[str, Any]) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("no mpirun (Debian: apt install openmpi-bin)")
    prepared = StepCommand("ingest", pipeline, "prepared", str(root), overrides)
    for step in ("ingest", "validate", "transform"):
        call(warm_parent, replace(prepared, step=step))
    found = {name: accuracy(warm_parent, prepared, name, overrides) for name in STRATEGIES}
    expected = found["single"]
    for name, one in found.items():
        assert one.value >= LEAST_ACCURACY, (name, found)
        # Noise: the 95 % intervals overlap. Gradients that come late cost so short a training more.
        slack = LATE_GRADIENTS if name == "parameter_server" else 0.0
        assert one.low <= expected.high, (name, found)
        assert one.high >= expected.low - slack, (name, found)


@pytest.mark.timeout(900)
def test_digits(warm_parent: Path, tmp_path: Path) -> None:
    check(warm_parent, "digits", tmp_path, DIGITS)


@pytest.mark.timeout(1500)
def test_mnist(warm_parent: Path, tmp_path: Path, shared_data: Path) -> None:
    """On ten thousand of them: preparing all seventy would take longer than the five trainings."""
    files = {
        f"ingest.source.{kind}s": str(shared_data / "mnist" / f"t10k-{kind}s-{form}-ubyte.gz")
        for kind, form in (("image", "idx3"), ("label", "idx1"))
    }
    check(warm_parent, "mnist", tmp_path, MNIST | files)
