"""Training by several processes is training by one, number by number, on the same order of data."""

import json
import os
import re
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
from served_run import put_into_service

from contract.free_ports import free_ports

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

TWO_HEADED = """
def build_model(features, hyperparameters):
    hidden = layers.Dense(8, activation="relu")(features["x"])
    return keras.Model(
        inputs=features, outputs={"kind": layers.Dense(3)(hidden), "size": layers.Dense(1)(hidden)}
    )
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

BREAKING = """
class RateThatBreaks(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return keras.ops.where(step < 8, 0.01, float("nan"))

def optimizer(hyperparameters, steps):
    return keras.optimizers.SGD(RateThatBreaks())
"""

# What members measure comes with a beat each second.
PAUSE = """
import time

class Pause(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(1.5 if batch == 10 else 0.0)

def callbacks(hyperparameters, steps):
    return [Pause()]
"""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "combined": (
        TWO_HEADED + SCHEDULED,
        {
            "heads.size": {"task": "regression", "loss_weight": 0.5},
            "train.class_weights": {"kind": {"a": 2.0}},
            "train.clip_norm": 0.05,
        },
    ),
    "weighted_penalised_odd_clipped": (
        PENALISED + MOMENTUM,
        {"weight": "importance", "train.batch_size": 15, "train.clip_norm": 0.05},
    ),
    "statistics": (NORMALISED_APART + MOMENTUM, {}),
    "embedding": (EMBEDDED, {}),
    # of 100 examples: checkpoint 5 is in mid-epoch
    "streamed": (PLAIN + MOMENTUM, {"train.memory_ratio": 0.0, "train.batch_size": 30}),
    "synchronised_normalisation": (NORMALISED + MOMENTUM, {}),
}

# Of a batch in shares, a layer that is not synchronized knows the mean of its shares' variances.
SHARED = {case: "moving_variance" if case == "statistics" else "" for case in CASES}

SERVERS = {"train.strategy": "parameter_server"}
PEERS = {"train.strategy": "multi_worker"}
WARM = {"train.start_from": "champion"}  # the model that `single` has trained
SERVED = ("combined", "weighted_penalised_odd_clipped", "statistics", "embedding")
# By name: overrides, which of four processes plays which role, and what they train.
JOBS: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "single": ({}, ("chief-0",), tuple(CASES)),
    "multi_worker": (PEERS, ("chief-0", "worker-0"), (*CASES, "breaking")),
    "multi_worker_goes_on": (PEERS, ("chief-0", "worker-0"), ("streamed",)),
    "servers_together": (
        {**SERVERS, "train.is_synchronous": True},
        ("chief-0", "worker-0", "worker-1", "ps-0"),
        SERVED,
    ),
    "servers_apart": (SERVERS, ("chief-0", "worker-0", "worker-1", "ps-0"), ("combined",)),
    "servers_bounded": (
        {**SERVERS, "train.max_staleness": 1},
        ("chief-0", "worker-0", "worker-1", "ps-0"),
        ("embedding",),
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
        SERVED,
    ),
    "warm": (WARM, ("chief-0",), ("combined",)),
    "warm_multi_worker": ({**PEERS, **WARM}, ("chief-0", "worker-0"), ("combined",)),
    "warm_servers": (
        {**SERVERS, **WARM, "train.is_synchronous": True},
        ("chief-0", "worker-0", "worker-1", "ps-0"),
        ("combined",),
    ),
}
PAUSING = (("multi_worker", "streamed"), ("servers_apart", "combined"))
MPI = {"train.strategy": "mpi", "train.workers": 2}
MPI_CASES = ("combined", "statistics", "synchronised_normalisation")


def weighted_rows(split: str) -> list[dict[str, Any]]:
    random = np.random.default_rng(4)
    return [
        {
            "x": [float(v) for v in random.normal(size=4) + 2 * np.eye(4)[number % 3]],
            "label:kind": number % 3,
            "label:size": number / 50,
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
def runs(module_make_run, tmp_path_factory) -> dict[str, dict[str, Any]]:
    folder, ports = tmp_path_factory.mktemp("roles"), iter(free_ports(100))
    plans: list[list[dict[str, Any]]] = [[], [], [], []]
    made: dict[str, dict[str, Any]] = {name: {} for name in JOBS}
    for job, (overrides, members, cases) in JOBS.items():
        for case in cases:
            model, more = (CASES | {"breaking": (PLAIN + BREAKING, {})})[case]
            model += PAUSE * ((job, case) in PAUSING)
            one = made[job][case] = make(module_make_run, model, overrides, more)
            addresses = addresses_of(members, ports) if len(members) > 1 else {}
            for number, plan in enumerate(plans):
                name = members[number] if number < len(members) else "-0"
                plan.append(part_of(one, name, addresses))
            if job == "multi_worker_goes_on":
                plans[0][-1]["resumes"] = made["single"][case].run.run_id
    put_into_service(made["single"]["combined"].run, STEPS)
    paths = [folder / f"plan{number}.json" for number in range(len(plans))]
    for path, plan in zip(paths, plans, strict=True):
        path.write_text(json.dumps(plan))
    run_all([[sys.executable, str(SCRIPT), str(path)] for path in paths], folder)
    return made


@pytest.fixture(scope="module")
def results(runs) -> dict[str, dict[str, Trained]]:
    return {
        job: {case: trained(one) for case, one in made.items() if case != "breaking"}
        for job, made in runs.items()
    }


def compare(found: Trained, expected: Trained, apart: str = "", after: int = 0) -> None:
    assert len(found.history) == STEPS - after
    for ours, theirs in zip(found.history, expected.history[after:], strict=True):
        figures = ("step", "loss", "learning_rate", "gradient_norm")
        assert [name in ours for name in figures] == [name in theirs for name in figures]
        for name in (name for name in figures if name in theirs):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-5, abs=1e-7), name
    states = ((found.weights, expected.weights), (found.training, expected.training))
    for own, others in states:
        # by their order: Keras counts the layers of all the models that a process makes
        for our, name in zip(sorted(own), sorted(others), strict=True):
            if not name.startswith("random:") and not (apart and name.endswith(apart)):
                np.testing.assert_allclose(
                    own[our], others[name], rtol=2e-5, atol=2e-6, err_msg=name
                )


@pytest.mark.parametrize("case", CASES)
def test_multi_worker_is_single_number_by_number(results, case):
    compare(results["multi_worker"][case], results["single"][case], apart=SHARED[case])


@pytest.mark.parametrize("case", ["combined", "statistics"])
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


@pytest.mark.parametrize("job", ["warm_multi_worker", "warm_servers"])
def test_every_process_begins_with_the_champion_as_single_does(results, job):
    compare(results[job]["combined"], results["warm"]["combined"])
    first, before = results["warm"]["combined"].history[0], results["single"]["combined"].history
    assert abs(first["loss"] - before[-1]["loss"]) < abs(first["loss"] - before[0]["loss"])


def test_clipping_was_needed(results):
    norms = [
        figures["gradient_norm"]
        for figures in results["single"]["weighted_penalised_odd_clipped"].history
    ]
    assert min(norms) > 0.05


def test_a_training_goes_on_in_mid_epoch_with_another_number_of_workers(results):
    expected = results["single"]["streamed"]
    compare(results["multi_worker_goes_on"]["streamed"], expected, after=5)


def test_every_process_is_told_which_layer_broke(runs):
    folder = runs["multi_worker"]["breaking"].run.path
    for role in ("chief-0", "worker-0"):
        said = (folder / f"{role}.txt").read_text()
        assert "the last good checkpoint is step" in said
        assert re.search(r"began in step 9: after the update .* the weight of 'dense.*/", said)


@pytest.mark.parametrize(
    ("job", "case", "members"),
    [
        ("multi_worker", "streamed", ["worker-0"]),
        ("servers_apart", "combined", ["worker-0", "worker-1", "ps-0"]),
    ],
)
def test_every_process_reports_what_it_measures(results, job, case, members):
    last = results[job][case].history[-1]
    for prefix in ("", *(f"{member}/" for member in members)):
        for name in ("step_ms", "examples_per_second", "input_wait_ratio", "idle_ratio"):
            assert f"{prefix}{name}" in last
    waited = [figures["peer_wait_ratio"] for figures in results[job][case].history]
    assert max(waited) > 0


def test_two_unbounded_workers_apply_each_batch_once_and_their_gradients_come_late(results):
    found = results["servers_apart"]["combined"]
    assert [figures["step"] for figures in found.history] == [*range(1, STEPS + 1)]
    assert found.training["optimizer:0"] == STEPS  # iterations
    staleness = [figures["staleness"] for figures in found.history]
    # both begin with the same weights; in between no more can come than there are
    assert 1 <= max(staleness) < STEPS
    assert found.history[-1]["learning_rate"] == pytest.approx(
        results["single"]["combined"].history[-1]["learning_rate"]
    )


def test_two_bounded_workers_are_never_later_than_that(results):
    found = results["servers_bounded"]["embedding"]
    assert [figures["step"] for figures in found.history] == [*range(1, STEPS + 1)]
    assert {figures["staleness"] for figures in found.history} == {0.0, 1.0}


@pytest.mark.parametrize("case", MPI_CASES)
def test_mpi_is_single_number_by_number(mpi_results, results, case):
    compare(mpi_results[case], results["single"][case], apart=SHARED[case])


@pytest.fixture(scope="module")
def mpi_results(module_make_run, tmp_path_factory) -> dict[str, Trained]:
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("no mpirun here: install openmpi-bin")
    folder = tmp_path_factory.mktemp("mpi")
    made = {n: make(module_make_run, CASES[n][0], MPI, CASES[n][1]) for n in MPI_CASES}
    plan = [{"root": str(one.run.root), "run_id": one.run.run_id} for one in made.values()]
    (folder / "plan.json").write_text(json.dumps(plan))
    options = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2"]
    run_all([[mpirun, *options, sys.executable, str(SCRIPT), str(folder / "plan.json")]], folder)
    return {name: trained(one) for name, one in made.items()}
