"""Training by real processes that are killed, hang and are told to end: it ends as if not.

Files that are killed in the making, at every operation: components/models/test_checkpoints.py.
"""

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from contract.command import StepCommand
from contract.schema.cluster import JobConfig
from launching.job_spec import training_job
from launching.processes.role_processes import under_mpirun

SEED = 3
STEPS, EVERY = 60, 5
SILENCE_SECONDS = 5.0  # half of train.step_timeout_seconds

# Large enough for a checkpoint to be caught in the making, slow enough to be hit between two; the
# marker holds the number of steps done.
MODEL = """
import pathlib
import time
import keras

class Slow(keras.callbacks.Callback):
    def __init__(self, hyperparameters):
        super().__init__()
        self.marker = hyperparameters.get("marker")
        self.seconds = hyperparameters.get("seconds", 0.0)

    def on_train_batch_end(self, batch, logs=None):
        if self.marker:
            new = pathlib.Path(self.marker + ".new")
            new.write_text(str(batch + 1))
            new.replace(self.marker)
        time.sleep(self.seconds)

def build_model(features, hyperparameters):
    ids = keras.ops.cast(keras.ops.clip(features["x"] * 100.0 + 500.0, 0, 999), "int32")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(1000, 256)(ids))
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))

def callbacks(hyperparameters, steps):
    return [Slow(hyperparameters)]
"""

OVERRIDES = {
    "train.steps": STEPS,
    "train.checkpoint_every_steps": EVERY,
    "train.learning_rate": 0.005,
}
STRATEGIES = {
    "multi_worker": {},
    "parameter_server": {"train.max_staleness": 0},  # so that the numbers are those of one process
    "mpi": {},
}
KILL, STOP = signal.SIGKILL, signal.SIGSTOP
MATRIX = {
    "multi_worker": [("worker-0", STOP), ("chief-0", KILL)],
    "parameter_server": [("worker-1", STOP), ("ps-0", STOP), ("chief-0", KILL)],
    "mpi": [("worker-1", KILL)],
}


class Job:
    """A training job under the launcher of local processes, with its output as it comes."""

    def __init__(self, made) -> None:
        self.made = made
        settings = JobConfig(max_restarts=10, restart_backoff_seconds=0.1, grace_seconds=30)
        command = StepCommand("train", "tiny", made.run.run_id, str(made.run.root))
        job = training_job("tiny-train", command, made.config.train, settings, sys.executable)
        if job.is_mpi:
            job = under_mpirun(job)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launching.processes.role_processes", job.model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    @property
    def resumed(self) -> list[int]:
        return [int(step) for step in re.findall(r"resumed from checkpoint (\d+)", self.said)]

    def process_of(self, role: str) -> psutil.Process:
        """Return the process that plays a role, by its TF_CONFIG or its rank."""
        kind, index = role.rsplit("-", 1)
        task = {"type": kind, "index": int(index)}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                if environment.get("OMPI_COMM_WORLD_RANK") == index:
                    return process
                if json.loads(environment.get("TF_CONFIG", "{}")).get("task") == task:
                    return process
        raise AssertionError(f"no process plays {role}\n{self.said[-5000:]}")

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 240
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"it did not come to that:\n{self.said[-8000:]}")
            time.sleep(0.002)

    def wait_for_more_than(self, step: int) -> None:
        self.wait_for(lambda: self.made.published and self.made.published[-1] > step)

    def end(self) -> int:
        code = self.process.wait(300)
        self._reader.join(10)
        return code


@pytest.fixture(scope="module")
def undisturbed(module_make_run) -> list[np.ndarray]:
    made = module_make_run(model=MODEL, overrides=OVERRIDES)
    made.train()
    return made.model(STEPS).get_weights()


@pytest.mark.thorough
@pytest.mark.parametrize("strategy", MATRIX)
def test_whatever_happens_to_a_role_training_ends_as_if_it_had_not(
    module_make_run, undisturbed, tmp_path, strategy
):
    marker = tmp_path / "steps"
    made = module_make_run(
        model=MODEL,
        overrides={
            **OVERRIDES,
            **STRATEGIES[strategy],
            "train.strategy": strategy,
            "train.workers": 2,
            "train.step_timeout_seconds": 2 * SILENCE_SECONDS,
            "train.hyperparameters.marker": str(marker),
            "train.hyperparameters.seconds": 0.05,
        },
    )
    job, chance = Job(made), random.Random(f"{SEED} {strategy}")
    for role, sign in chance.sample(MATRIX[strategy], len(MATRIX[strategy])):
        job.wait_for_more_than(made.published[-1] if made.published else 0)
        time.sleep(chance.uniform(0, EVERY * 0.05))
        if sign == KILL:
            disturb_by_kill(job, role, marker)
        elif (strategy, role) == ("parameter_server", "worker-1"):
            disturb_replaceable(job, role)
        else:
            disturb_by_hang(job, role)
    job.wait_for_more_than(made.published[-1])
    assert_sigterm_publishes(job, "ps-0" if strategy == "parameter_server" else "")
    assert_ends_like(made, undisturbed)


def disturb_by_kill(job: Job, role: str, marker: Path) -> None:
    """Kill a role, the chief while it writes; at most what came since the last whole is lost."""
    if role == "chief-0":
        job.wait_for(lambda: any(job.made.run.checkpoints.glob(".0000000*.tmp-*")))
    resumed = len(job.resumed)
    job.process_of(role).kill()
    whole, done = job.made.published[-1], int(marker.read_text())
    job.wait_for(lambda: len(job.resumed) > resumed)
    assert job.resumed[-1] >= whole
    assert done - job.resumed[-1] < 2 * EVERY


def disturb_by_hang(job: Job, role: str) -> None:
    """Stop a role: it is found within the bound, and all start again from the last checkpoint."""
    resumed, stopped_at = len(job.resumed), time.monotonic()
    job.process_of(role).suspend()
    job.wait_for(lambda: f"{role} hangs: not heard of for" in job.said)
    assert time.monotonic() - stopped_at < SILENCE_SECONDS + 5  # some room for a busy machine
    whole = job.made.published[-1]
    job.wait_for(lambda: len(job.resumed) > resumed)
    assert job.resumed[-1] >= whole


def disturb_replaceable(job: Job, role: str) -> None:
    """Stop a role that can be spared: training goes on, and another takes its place."""
    resumed, hung = len(job.resumed), job.process_of(role)
    hung.suspend()
    job.wait_for(lambda: "training continues without it" in job.said)
    job.wait_for(lambda: f"starting {role} again" in job.said)
    job.wait_for(lambda: not hung.is_running())
    job.wait_for_more_than(job.made.published[-1])
    again = job.process_of(role)
    again.terminate()  # as a drained node does
    job.wait_for(lambda: not again.is_running())
    job.wait_for_more_than(job.made.published[-1])
    assert len(job.resumed) == resumed  # nobody else has started again


def assert_sigterm_publishes(job: Job, role: str) -> None:
    """End the job from outside, or one role before: the step under way is done and published."""
    if role:
        job.process_of(role).terminate()
        job.wait_for(lambda: f"SIGTERM of {role} after step" in job.said)
    job.process.terminate()
    assert job.end() == 1, job.said[-8000:]
    last = job.made.published[-1]
    assert re.search(rf"SIGTERM( of \S+)? after step {last}; its checkpoint is published", job.said)


def assert_ends_like(made, undisturbed: list[np.ndarray]) -> None:
    """Go on to the last step in this process, and compare the weights."""
    alone = {"strategy": "single", "max_staleness": None, "step_timeout_seconds": 300.0}
    train = made.config.train.model_copy(update=alone)
    made = dataclasses.replace(made, config=made.config.model_copy(update={"train": train}))
    record = made.train()
    assert record.last_step == STEPS
    assert record.resumed_from_step > 0
    for found, expected in zip(made.model(STEPS).get_weights(), undisturbed, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_a_workers_broken_shard_ends_the_job_with_its_reason(make_run):
    made = make_run(overrides={"train.strategy": "multi_worker"})
    path = made.shard("train")
    path.write_bytes(path.read_bytes()[:-300])
    job = Job(made)
    assert job.end() == 2, job.said
    assert f"{path}: truncated" in job.said
    assert "truncated" in made.run.training_ended.read_text()
