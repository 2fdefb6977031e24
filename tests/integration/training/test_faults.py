"""Training by real processes that are killed, stopped and told to end: it ends as if not."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract.command import StepCommand
from contract.records.record import Result
from contract.records.training import TrainRecord
from contract.schema.cluster import JobConfig
from operators.job_spec import training_job

# Large enough for a checkpoint to be caught in the making, slow enough to be hit between two.
MODEL = """
import time
import keras

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)

def build_model(features, hyperparameters):
    ids = keras.ops.cast(keras.ops.clip(features["x"] * 100.0 + 500.0, 0, 999), "int32")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(1000, 256)(ids))
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))

def callbacks(hyperparameters, steps):
    return [Slow()]
"""

OVERRIDES = {
    "train.steps": 60,
    "train.checkpoint_every_steps": 5,
    "train.step_timeout_seconds": 8,
    "train.learning_rate": 0.005,
}


class Job:
    """A training job under the launcher of local processes, with its output as it comes."""

    def __init__(self, made) -> None:
        self.made = made
        settings = JobConfig(max_restarts=5, restart_backoff_seconds=0.1)
        command = StepCommand("train", "tiny", made.run.run_id, str(made.run.root))
        job = training_job("tiny-train", command, made.config.train, settings, sys.executable)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "operators.launchers.processes", job.model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def pid_of(self, role: str) -> int:
        """Return the process that plays a role: of the launcher's children, by their TF_CONFIG."""
        kind, index = role.rsplit("-", 1)
        task = f'"task": {{"type": "{kind}", "index": {index}}}'.encode()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for pid in children.split():
            if task in Path(f"/proc/{pid}/environ").read_bytes():
                return int(pid)
        raise AssertionError(f"no process plays {role}\n{self.said[-5000:]}")

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 240
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"it did not come to that:\n{self.said[-8000:]}")
            time.sleep(0.002)

    def wait_for_step(self, step: int) -> None:
        self.wait_for(lambda: self.made.published and self.made.published[-1] >= step)

    def end(self) -> TrainRecord:
        code = self.process.wait(300)
        assert code == 0, self.said[-8000:]
        return Result.read(self.made.run.result("train")).detail_as(TrainRecord)


@pytest.fixture
def undisturbed(make_run) -> list[np.ndarray]:
    made = make_run(model=MODEL, overrides={**OVERRIDES, "train.step_timeout_seconds": 300})
    made.train()
    return made.model(60).get_weights()


def test_all_reduce_survives_a_hang_a_kill_while_publishing_and_a_preemption(make_run, undisturbed):
    made = make_run(model=MODEL, overrides={**OVERRIDES, "train.strategy": "multi_worker"})
    job = Job(made)

    job.wait_for_step(10)
    stopped_at, stopped = time.monotonic(), job.pid_of("worker-0")
    os.kill(stopped, signal.SIGSTOP)
    job.wait_for(lambda: "hangs: not heard of for" in job.said or "no step for 8 s" in job.said)
    assert time.monotonic() - stopped_at < 8 + 5  # the bound, and some room for a busy machine
    with contextlib.suppress(ProcessLookupError):  # the launcher has killed it meanwhile
        os.kill(stopped, signal.SIGCONT)

    job.wait_for_step(20)
    half_written = made.run.checkpoints
    job.wait_for(lambda: any(half_written.glob(".0000000*.tmp-*")))
    os.kill(job.pid_of("chief-0"), signal.SIGKILL)
    whole = made.published[-1]

    job.wait_for_step(35)
    os.kill(job.pid_of("worker-0"), signal.SIGTERM)
    job.wait_for(lambda: "SIGTERM of worker-0 after step" in job.said)

    record = job.end()
    assert record.last_step == 60
    assert record.resumed_from_step >= whole
    for found, expected in zip(made.model(60).get_weights(), undisturbed, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_parameter_servers_survive_the_loss_of_a_worker_and_of_a_server(make_run, undisturbed):
    overrides = {
        **OVERRIDES,
        "train.strategy": "parameter_server",
        "train.max_staleness": 0,  # so that the numbers are those of one process
        "train.workers": 2,
        "train.parameter_servers": 1,
    }
    made = make_run(model=MODEL, overrides=overrides)
    job = Job(made)

    job.wait_for_step(10)
    before = made.published[-1]
    os.kill(job.pid_of("worker-1"), signal.SIGKILL)
    job.wait_for(lambda: "training goes on without it" in job.said)
    job.wait_for_step(before + 10)
    assert job.said.count("train: start, attempt") == 1  # nobody else has started again

    os.kill(job.pid_of("ps-0"), signal.SIGKILL)
    job.wait_for(lambda: "ps-0 is gone" in job.said)

    assert job.end().last_step == 60
    for found, expected in zip(made.model(60).get_weights(), undisturbed, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_a_workers_broken_shard_ends_the_job_with_its_reason(make_run):
    made = make_run(overrides={"train.strategy": "multi_worker"})
    path = made.shard("train")
    path.write_bytes(path.read_bytes()[:-300])
    job = Job(made)
    assert job.process.wait(240) == 2, job.said
    assert f"{path}: truncated" in job.said
    assert "truncated" in made.run.training_ended.read_text()
