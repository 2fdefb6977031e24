"""Training by several processes is training by one, number by number, on the same order of data."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.launchers.processes import free_ports

SCRIPT = Path(__file__).with_name("roles_script.py")
STEPS = 12

HEADER = """
import keras
from keras import layers

"""

PLAIN = """
def build_model(features, hyperparameters):
    hidden = layers.Dense(8, activation="relu")(features["x"])
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))
"""

PENALISED = PLAIN.replace('activation="relu"', 'kernel_regularizer="l2"')

# Statistics over all processes' examples, as BatchNormalization offers them.
NORMALISED = """
def build_model(features, hyperparameters):
    hidden = layers.Dense(8)(features["x"])
    hidden = layers.BatchNormalization(synchronized=True, momentum=0.9)(hidden)
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))
"""

# Only the input is normalised, so that nothing else depends on a process's own statistics.
NORMALISED_APART = """
def build_model(features, hyperparameters):
    aside = layers.BatchNormalization(momentum=0.9, name="aside")(features["x"])
    hidden = layers.Dense(3)(features["x"])
    return keras.Model(inputs=features, outputs=hidden + 0.0 * aside[:, :3])
"""

EMBEDDED = """
def build_model(features, hyperparameters):
    ids = keras.ops.cast(features["x"] > 0.5, "int32")
    hidden = layers.Flatten()(layers.Embedding(2, 4)(ids))
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))
"""

MOMENTUM = """
def optimizer(hyperparameters, steps):
    return keras.optimizers.SGD(0.1, momentum=0.9)
"""

SCHEDULED = """
def optimizer(hyperparameters, steps):
    return keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(0.05, steps), weight_decay=0.01
    )
"""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "scheduled": (PLAIN + SCHEDULED, {}),
    "weighted_penalised_odd_clipped": (
        PENALISED + MOMENTUM,
        {"weight": "importance", "train.batch_size": 15, "train.clip_norm": 0.05},
    ),
    "statistics": (NORMALISED_APART + MOMENTUM, {}),
    "embedding": (EMBEDDED, {}),
    "streamed": (PLAIN + MOMENTUM, {"train.memory_ratio": 0.0}),
    "synchronised_normalisation": (NORMALISED + MOMENTUM, {}),
}

# Of a batch in shares, a layer that is not synchronized knows the mean of its shares' variances.
SHARED = {case: "moving_variance" if case == "statistics" else "" for case in CASES}

SERVERS = {"train.strategy": "parameter_server"}
SERVED = ("scheduled", "weighted_penalised_odd_clipped", "statistics", "embedding")
# By name: overrides, and which of four processes plays which role.
JOBS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "single": ({}, ("chief-0",)),
    "multi_worker": ({"train.strategy": "multi_worker"}, ("chief-0", "worker-0")),
    "servers_together": (
        {**SERVERS, "train.is_synchronous": True},
        ("chief-0", "worker-0", "worker-1", "ps-0"),
    ),
    "servers_in_turn": (
        {
            **SERVERS,
            "train.max_staleness": 0,
            "train.workers": 1,
            "train.parameter_servers": 2,
            "train.partition_mb": 1e-4,  # 105 bytes: most variables are divided
        },
        ("chief-0", "worker-0", "ps-0", "ps-1"),
    ),
}
MPI = {"train.strategy": "mpi", "train.workers": 2}


def weighted_rows(split: str) -> list[dict[str, Any]]:
    random = np.random.default_rng(4)
    return [
        {
            "x": [float(v) for v in random.normal(size=4) + 2 * np.eye(4)[number % 3]],
            "label:kind": number % 3,
            "weight": float(random.uniform(0.1, 3)),
            "example_id": str(number),
            "slice:colour": "red",
        }
        for number in range(100)
    ]


@dataclass
class Trained:
    """What one training left."""

    history: list[dict[str, float]]
    weights: dict[str, np.ndarray]
    training: dict[str, np.ndarray]


def addresses_of(members: tuple[str, ...], ports: Iterator[int]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in members:
        found.setdefault(name.rsplit("-", 1)[0], []).append(f"127.0.0.1:{next(ports)}")
    return found


def part_of(made, name: str, addresses: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return what one process is told of a training: which one, and its part in it."""
    kind, index = name.rsplit("-", 1)
    run = {"root": str(made.run.root), "run_id": made.run.run_id}
    return {**run, "kind": kind, "index": int(index), "addresses": addresses}


def trained(made) -> Trained:
    folder = made.run.checkpoint(STEPS)
    return Trained(
        json.loads((made.run.path / "history.json").read_text()),
        dict(np.load(folder / "weights.npz")),
        dict(np.load(folder / "training.npz")),
    )


def make(module_make_run, model: str, *overrides: Mapping[str, Any]):
    every = {
        "train.steps": STEPS,
        "train.checkpoint_every_steps": 5,
        "train.log_every_steps": 1,
        "train.step_timeout_seconds": 120,
    }
    merged = {k: v for one in (every, *overrides) for k, v in one.items()}
    return module_make_run(model=HEADER + model, overrides=merged, rows=weighted_rows)


def run_all(commands: list[list[str]], folder: Path) -> None:
    """Run processes side by side; fail with what they said if one fails."""
    logs = [folder / f"process{n}.log" for n in range(len(commands))]
    with_logs = [(c, path.open("w")) for c, path in zip(commands, logs, strict=True)]
    running = [
        subprocess.Popen(c, stdout=file, stderr=subprocess.STDOUT, env=os.environ)
        for c, file in with_logs
    ]
    ends = time.monotonic() + 600
    try:
        while any(process.poll() is None for process in running) and time.monotonic() < ends:
            if any(process.poll() for process in running):
                break  # the others would wait for it
            time.sleep(0.1)
        codes = [process.poll() for process in running]
    finally:
        for process, (_, file) in zip(running, with_logs, strict=True):
            process.kill()
            process.wait()
            file.close()
    said = "\n\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in logs)
    assert codes == [0] * len(codes), said


@pytest.fixture(scope="module")
def results(module_make_run, tmp_path_factory) -> dict[str, dict[str, Trained]]:
    folder, ports = tmp_path_factory.mktemp("roles"), iter(free_ports(100))
    plans: list[list[dict[str, Any]]] = [[], [], [], []]
    made: dict[str, dict[str, Any]] = {name: {} for name in JOBS}
    for job, (overrides, members) in JOBS.items():
        for case, (model, more) in CASES.items():
            if "servers" in job and case not in SERVED:
                continue
            one = make(module_make_run, model, overrides, more)
            made[job][case] = one
            addresses = addresses_of(members, ports) if len(members) > 1 else {}
            for number, plan in enumerate(plans):
                name = members[number] if number < len(members) else "-0"
                plan.append(part_of(one, name, addresses))
    paths = [folder / f"plan{number}.json" for number in range(len(plans))]
    for path, plan in zip(paths, plans, strict=True):
        path.write_text(json.dumps(plan))
    run_all([[sys.executable, str(SCRIPT), str(path)] for path in paths], folder)
    return {job: {c: trained(one) for c, one in by_case.items()} for job, by_case in made.items()}


def compare(found: Trained, expected: Trained, apart: str = "") -> None:
    assert len(found.history) == len(expected.history) == STEPS
    for ours, theirs in zip(found.history, expected.history, strict=True):
        figures = ("step", "loss", "learning_rate", "gradient_norm")
        assert [name in ours for name in figures] == [name in theirs for name in figures]
        for name in (name for name in figures if name in theirs):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-5, abs=1e-7), name
    for ours, theirs in ((found.weights, expected.weights), (found.training, expected.training)):
        # by their order: Keras counts the layers of all the models that a process makes
        for our, name in zip(sorted(ours), sorted(theirs), strict=True):
            if not name.startswith("random:") and not (apart and name.endswith(apart)):
                np.testing.assert_allclose(
                    ours[our], theirs[name], rtol=2e-5, atol=2e-6, err_msg=name
                )


@pytest.mark.parametrize("case", CASES)
def test_multi_worker_is_single_number_by_number(results, case):
    compare(results["multi_worker"][case], results["single"][case], apart=SHARED[case])


@pytest.mark.parametrize("case", ["scheduled", "statistics"])
def test_tensorflows_own_all_reduce_is_single_number_by_number(
    results, module_make_run, tmp_path, case
):
    model, more = CASES[case]
    grpc = {"train.strategy": "multi_worker", "train.all_reduce": "grpc"}
    made = make(module_make_run, model, grpc, more)
    members = ("chief-0", "worker-0")
    addresses, commands = addresses_of(members, iter(free_ports(2))), []
    for name in members:  # processes of their own: TensorFlow takes addresses once
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([part_of(made, name, addresses)]))
        commands.append([sys.executable, str(SCRIPT), str(path)])
    run_all(commands, tmp_path)
    compare(trained(made), results["single"][case], apart=SHARED[case])


@pytest.mark.parametrize("case", SERVED)
@pytest.mark.parametrize("job", ["servers_together", "servers_in_turn"])
def test_parameter_servers_are_single_number_by_number(results, job, case):
    apart = SHARED[case] if job == "servers_together" else ""
    compare(results[job][case], results["single"][case], apart)


def test_clipping_was_needed(results):
    norms = [
        figures["gradient_norm"]
        for figures in results["single"]["weighted_penalised_odd_clipped"].history
    ]
    assert min(norms) > 0.05


def test_every_process_reports_what_it_measures(results):
    last = results["multi_worker"]["scheduled"].history[-1]
    assert {"step_ms", "examples_per_second", "input_wait_ratio", "idle_ratio"} <= last.keys()


@pytest.mark.parametrize("case", ["embedding", "statistics", "synchronised_normalisation"])
def test_mpi_is_single_number_by_number(mpi_results, results, case):
    compare(mpi_results[case], results["single"][case], apart=SHARED[case])


@pytest.fixture(scope="module")
def mpi_results(module_make_run, tmp_path_factory) -> dict[str, Trained]:
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("no mpirun here: install openmpi-bin")
    folder = tmp_path_factory.mktemp("mpi")
    names = ("embedding", "statistics", "synchronised_normalisation")
    made = {n: make(module_make_run, CASES[n][0], MPI, CASES[n][1]) for n in names}
    plan = [{"root": str(one.run.root), "run_id": one.run.run_id} for one in made.values()]
    (folder / "plan.json").write_text(json.dumps(plan))
    options = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2"]
    run_all([[mpirun, *options, sys.executable, str(SCRIPT), str(folder / "plan.json")]], folder)
    return {name: trained(one) for name, one in made.items()}
