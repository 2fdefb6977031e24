"""What Envoy costs a request, and how fast and how cleanly traffic follows a plan.

Run as `python tests/benchmarks/bench_envoy.py [--changes N]`. It starts a stack of its own on free
loopback ports: supervisord, Envoy, agent, and two real model servers with a tiny SavedModel. The
peer is the same request straight to the server; limits are the goals that README states. All in one
run, medians of five.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))

from callers import Callers
from support import emit

from components.runs.agent_client import AgentClient
from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.traffic import Arm, TrafficPlan
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory
from serving.agent.backends.envoy import envoy_programs
from serving.agent.hosts.programs import agent_program
from serving.agent.settings import MachineSettings
from serving.supervisord.configuration import socket_path, write_configuration
from serving.supervisord.supervision import Supervisor

PIPELINE = "digits"
ROUNDS = 5
REQUESTS_PER_ROUND = 1000
CALLERS = 4
MAX_ADDED_MS = 1.0
MAX_ROLL_BACK_SECONDS = 2.0
INSTANCES = {"instances": [{"x": 1.0}]}
BODY = json.dumps(INSTANCES)
PATH = f"/v1/models/{PIPELINE}:predict"


# --- a stack ------------------------------------------------------------------------------------


def add_package(layout: PipelineLayout, version: int, is_grpc: bool = False) -> None:
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serving_default(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.stack([x, 1.0 - x], axis=1)}

    folder = layout.version(version)
    signatures = {"serving_default": serving_default}
    tf.saved_model.save(module, str(folder / "model"), signatures=signatures)
    PackageManifest(
        pipeline=PIPELINE,
        version=version,
        created_at=datetime.now(UTC),
        digest=digest_directory(folder / "model"),
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("a", "b"))},
        serve=ServeConfig(drain_seconds=2.0, grpc=is_grpc),
        provenance=Provenance(run_id="bench", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")


def settings_in(folder: Path) -> MachineSettings:
    token_file = folder / "token"
    token_file.write_text("bench\n")
    return MachineSettings(
        root=folder / "artifacts",
        home=folder / "home",
        port=free_port(),
        token_file=token_file,
        envoy_port=free_port(),
        supervisor_socket=socket_path(folder / "home" / "supervisor"),
    )


def propose(client: AgentClient, weights: dict[int, int], standby: tuple[int, ...] = ()) -> float:
    """Store a plan and wait until traffic follows; return the seconds from the call on."""
    names = ("stable", "canary")
    arms = tuple(
        Arm(name=name, version=version, weight_percent=weight)
        for name, (version, weight) in zip(names, weights.items(), strict=False)
    )
    current: TrafficPlan = client.plan(PIPELINE)
    started = time.monotonic()
    plan = client.propose(current.model_copy(update={"arms": arms, "standby": standby}))
    while client.observation(PIPELINE).generation < plan.generation:
        time.sleep(0.005)
    return time.monotonic() - started


# --- callers ------------------------------------------------------------------------------------


def latencies_ms(port: int, requests: int = REQUESTS_PER_ROUND) -> list[float]:
    """Return the times of one caller's requests, one after the other on one connection."""
    connection, times = http.client.HTTPConnection("127.0.0.1", port, timeout=30), []
    for _ in range(requests):
        started = time.perf_counter()
        connection.request("POST", PATH, BODY)
        answer = connection.getresponse()
        answer.read()
        times.append(1000 * (time.perf_counter() - started))
        assert answer.status == 200, answer.status
    connection.close()
    return times


def calling(settings: MachineSettings) -> Callers:
    return Callers(("127.0.0.1", settings.envoy_port), PIPELINE, INSTANCES, CALLERS)


# --- figures ------------------------------------------------------------------------------------


def bench_added_latency(settings: MachineSettings) -> None:
    ports = json.loads((settings.state_folder / "ports.json").read_text())["ports"]
    direct_port = next(own["http"] for name, own in ports.items() if name.endswith("-1"))
    direct, through = [], []
    for port in (direct_port, settings.envoy_port):
        latencies_ms(port, 200)  # connections and code warm
    for _ in range(ROUNDS):
        direct.append(statistics.median(latencies_ms(direct_port)))
        through.append(statistics.median(latencies_ms(settings.envoy_port)))
    added = statistics.median(b - a for a, b in zip(direct, through, strict=True))
    emit(
        "request through Envoy, p50",
        statistics.median(through),
        statistics.median(direct),
        None,
        "ms",
    )
    emit("Envoy's share of it, p50", added, None, MAX_ADDED_MS, "ms")


def bench_weight_changes(settings: MachineSettings, client: AgentClient, changes: int) -> None:
    with calling(settings) as callers:
        seconds = [
            propose(client, {1: 100 - weight, 2: weight})
            for weight in (7 * change % 99 + 1 for change in range(changes))
        ]
    failed = callers.failures().total()
    emit(f"failed of {len(callers.answers)} requests over {changes} changes", failed, None, 0, "")
    emit("plan stored to traffic following, p50", statistics.median(seconds), None, 1.0, "s")
    emit("plan stored to traffic following, slowest", max(seconds), None, 1.0, "s")


def bench_roll_back(settings: MachineSettings, client: AgentClient) -> None:
    last = []
    for _ in range(ROUNDS):
        propose(client, {1: 50, 2: 50})
        with calling(settings) as callers:
            time.sleep(0.5)
            decided = time.monotonic()
            propose(client, {1: 100}, standby=(2,))
            time.sleep(0.5)
        last.append(callers.last(2) - decided)
    emit(
        "decision to last canary request",
        statistics.median(last),
        None,
        MAX_ROLL_BACK_SECONDS,
        "s",
    )


def bench_observation(client: AgentClient) -> None:
    times = []
    for _ in range(ROUNDS * 10):
        started = time.perf_counter()
        client.observation(PIPELINE)
        times.append(1000 * (time.perf_counter() - started))
    emit("an observation, p50", statistics.median(times), None, 50.0, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=45, help="weight changes under load")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as name:
        settings = settings_in(Path(name))
        for version in (1, 2):
            add_package(PipelineLayout(settings.root, PIPELINE), version)
        run(settings, options.changes)


def run(settings: MachineSettings, changes: int) -> None:
    programs: list[Any] = [*envoy_programs(settings), agent_program(settings)]
    write_configuration(settings.supervisor_home, programs)
    supervisor = Supervisor(settings.supervisor_home)
    supervisor.start()
    try:
        with AgentClient(f"http://127.0.0.1:{settings.port}", "bench") as client:
            propose(client, {1: 100}, standby=(2,))
            while not all(arm.is_ready for arm in client.observation(PIPELINE).versions):
                time.sleep(0.1)
            bench_added_latency(settings)
            bench_weight_changes(settings, client, changes)
            bench_roll_back(settings, client)
            bench_observation(client)
    finally:
        supervisor.stop()


if __name__ == "__main__":
    main()
