"""A real serving stack (supervisord, Envoy, agent, model servers) under runs that deploy to it."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.agent_client import AgentClient
from contract.command import StepCommand
from contract.layout import PipelineLayout
from contract.loader import PROJECT, freeze_pipeline
from contract.records.evaluation import BlessRecord
from contract.records.package import (
    InputSpec,
    LoadReport,
    PackageManifest,
    PackageRecord,
    Provenance,
)
from contract.records.record import Record, Result
from contract.records.traffic import DeployRecord
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory
from serving.agent.programs import agent_program, envoy_program
from serving.agent.settings import MachineSettings
from serving.agent.supervision import Supervisor, socket_path, write_configuration

PIPELINE = "coins"
PATIENCE_SECONDS = 90.0

CONFIG = f"""
name: {PIPELINE}
features:
  x: {{ dtype: float32 }}
heads:
  side: {{ task: binary_classification, classes: [heads, tails] }}
ingest:
  source: {{ kind: csv, files: [coins.csv] }}
deploy:
  ladder_percent: [5, 25, 50, 100]
  shadow_requests: 100
  timeout_seconds: 120
"""

# A SavedModel as small as can be: P(tails) = sigmoid(x).
EXPORT = """
import sys
import tensorflow as tf

class Coin(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x):
        tails = tf.sigmoid(x)
        return {"scores": tf.stack([1.0 - tails, tails], axis=1)}

coin = Coin()
tf.saved_model.save(coin, sys.argv[1], signatures={"serving_default": coin.predict})
"""


class Stack:
    """One machine's serving, and the runs that deploy to it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.layout = PipelineLayout(folder / "artifacts", PIPELINE)
        self._folder, self._model = folder, model
        home = folder / "home"
        self.token_file = folder / "token"
        self.token_file.write_text("secret\n")
        self.settings = MachineSettings(
            root=self.layout.root,
            home=home,
            port=free_port(),
            token_file=self.token_file,
            envoy_port=free_port(),
            envoy_admin_port=free_port(),
            supervisor_socket=socket_path(home / "supervisor"),
            drain_seconds=0.5,
        )
        self._supervisor = Supervisor(home / "supervisor")
        self.agent_url = f"http://127.0.0.1:{self.settings.port}"
        self.client = AgentClient(self.agent_url, "secret")

    def up(self) -> None:
        pipeline = self._folder / "pipelines" / PIPELINE
        pipeline.mkdir(parents=True)
        (pipeline / "pipeline.yaml").write_text(CONFIG)
        programs = [envoy_program(self.settings), agent_program(self.settings)]
        write_configuration(self.settings.supervisor_home, programs)
        self._supervisor.start()
        self.client.plan(PIPELINE)

    def down(self) -> None:
        self.client.close()
        self._supervisor.stop()

    def kill(self, program: str) -> None:
        """`kill -9` one of the stack's programs; supervisord starts it again."""
        os.kill(self._supervisor.states()[program].pid, signal.SIGKILL)

    def package(
        self, version: int, compared_with: int | None, fault_ratio: float = 0.0, **overrides: Any
    ) -> str:
        """Make what a run leaves up to `package`, and return its run id.

        Overrides are of the deploy section, as in `shadow_requests=0`.
        """
        folder, run = self.layout.version(version), self.layout.run(f"r{version}")
        shutil.copytree(self._model, folder / "model")
        digest = digest_directory(folder / "model")
        PackageManifest(
            pipeline=PIPELINE,
            version=version,
            created_at=datetime.now(UTC),
            digest=digest,
            inputs={"x": InputSpec(dtype="float32")},
            heads={"side": HeadConfig(task="binary_classification", classes=("heads", "tails"))},
            serve=ServeConfig(fault_ratio=fault_ratio, drain_seconds=2.0),
            compared_with_version=compared_with,
            provenance=Provenance(run_id=run.run_id, git_commit="", data_digests={}, versions={}),
        ).write(folder / "package.json")
        changes = {f"deploy.{key}": value for key, value in overrides.items()}
        freeze_pipeline(self._folder / "pipelines" / PIPELINE, run, changes)
        blessed = BlessRecord(
            is_blessed=True, candidate="c", step=1, champion_version=compared_with, reasons=()
        )
        load = LoadReport(
            requests=1,
            errors=0,
            seconds=1.0,
            requests_per_second=1.0,
            p50_ms=1.0,
            p95_ms=1.0,
            p99_ms=1.0,
        )
        made = PackageRecord(version=version, digest=digest, load=load, max_skew=0.0)
        for step, record in (("bless", blessed), ("package", made)):
            self._leave(step, run.run_id, record)
        return run.run_id

    def _leave(self, step: str, run_id: str, record: Record) -> None:
        Result(
            step=step,
            pipeline=PIPELINE,
            run_id=run_id,
            attempt=1,
            started_at=datetime.now(UTC),
            seconds=0.0,
            inputs={},
            detail=record.model_dump(mode="json"),
        ).write(self.layout.run(run_id).result(step))

    def start(self, step: str, run_id: str) -> subprocess.Popen[str]:
        """Start one stage as the process that everybody starts."""
        command = StepCommand(step, PIPELINE, run_id, str(self.layout.root))
        environment = {
            **os.environ,
            "SLIPWAY_PIPELINES": str(self._folder / "pipelines"),
            "SLIPWAY_AGENT_URL": self.agent_url,
            "SLIPWAY_AGENT_TOKEN_FILE": str(self.token_file),
        }
        return subprocess.Popen(
            command.arguments(),
            cwd=PROJECT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, step: str, run_id: str) -> Result:
        """Run one stage to its end and return its result."""
        process = self.start(step, run_id)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return Result.read(self.layout.run(run_id).result(step))

    def deploy(self, run_id: str) -> tuple[DeployRecord, DeployRecord]:
        """Run both stages and return how they ended."""
        stages = [self.run(step, run_id) for step in ("canary", "promote")]
        canary, promote = (stage.detail_as(DeployRecord) for stage in stages)
        return canary, promote

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, f"not so in {PATIENCE_SECONDS} s: {what}"
            time.sleep(0.05)


class Callers:
    """Users of the data plane, who ask without pause and note who answered."""

    def __init__(self, stack: Stack, count: int = 4) -> None:
        self._port = stack.settings.envoy_port
        self._is_stopping = False
        self.answers: list[tuple[float, str]] = []  # sent at, version or status or error
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopping = True
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        body = json.dumps({"instances": [1.5]})
        while not self._is_stopping:
            sent = time.monotonic()
            try:
                connection.request("POST", f"/v1/models/{PIPELINE}:predict", body)
                answer = connection.getresponse()
                answer.read()
                version = answer.getheader("x-slipway-version", "")
                who = f"v{version}" if answer.status == 200 else str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                who = type(error).__name__
            self.answers.append((sent, who))
            time.sleep(0.01)

    def counted(self) -> Counter[str]:
        return Counter(who for _, who in self.answers)

    def failures(self) -> int:
        return sum(count for who, count in self.counted().items() if not who.startswith("v"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "coin"
    subprocess.run([sys.executable, "-c", EXPORT, str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Stack]:
    """A stack whose pipeline has version 1 in service."""
    made = Stack(tmp_path_factory.mktemp("stack"), model)
    made.up()
    try:
        canary, promote = made.deploy(made.package(1, compared_with=None))
        assert (canary.outcome, promote.outcome) == ("first", "promoted")
        yield made
    finally:
        made.down()


@pytest.fixture
def callers(stack: Stack) -> Iterator[Callers]:
    with Callers(stack) as found:
        yield found
