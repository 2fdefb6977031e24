"""A real serving stack (supervisord, Envoy, agent, model servers) under runs that deploy to it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import warm
from callers import Callers
from releases import leave_package

from components.runs.agent_client import AgentClient
from contract.command import StepCommand
from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.loader import freeze_pipeline
from contract.places import CODE_FOLDER
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.record import Result
from contract.records.traffic import DeployRecord
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory
from serving.agent.backends.envoy import envoy_programs
from serving.agent.hosts.programs import agent_program
from serving.agent.settings import MachineSettings
from serving.supervisord.configuration import socket_path, write_configuration
from serving.supervisord.supervision import ProgramState, Supervisor

PIPELINE = "coins"
PATIENCE_SECONDS = 240.0

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
  min_seconds_per_step: 2
  timeout_seconds: 600
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

    def __init__(
        self, folder: Path, model: Path, warm_parent: Path | None = None, **changes: Any
    ) -> None:
        """Make one whose model servers are forks of a warm parent, or without one fresh."""
        self.layout = PipelineLayout(folder / "artifacts", PIPELINE)
        self._folder, self._model = folder, model
        home = folder / "home"
        self.token_file = folder / "token"
        self.token_file.write_text("secret\n")
        settings = MachineSettings(
            root=self.layout.root,
            home=home,
            port=free_port(),
            token_file=self.token_file,
            envoy_port=free_port(),
            supervisor_socket=socket_path(home / "supervisor"),
            drain_seconds=0.5,
        )
        if warm_parent is not None:
            changes["server_command"] = warm.server_command(warm_parent, home)
        self.settings = replace(settings, **changes)
        self._supervisor = Supervisor(home / "supervisor")
        self.agent_url = f"http://127.0.0.1:{self.settings.port}"
        self.client = AgentClient(self.agent_url, "secret")

    def up(self) -> None:
        pipeline = self._folder / "pipelines" / PIPELINE
        pipeline.mkdir(parents=True)
        (pipeline / "pipeline.yaml").write_text(CONFIG)
        self.start_again()

    def start_again(self) -> None:
        """Start what does not run, as `slipway up` does."""
        programs = [*envoy_programs(self.settings), agent_program(self.settings)]
        write_configuration(self.settings.supervisor_home, programs)
        with warm.inherited_environment():
            self._supervisor.start()
        self.client.plan(PIPELINE)

    def programs(self) -> dict[str, ProgramState]:
        """Return the state of each program by name."""
        return self._supervisor.states()

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
        leave_package(run, version, digest, compared_with)
        return run.run_id

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
            cwd=CODE_FOLDER,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, step: str, run_id: str) -> Result:
        """Run one stage to its end and return its result."""
        process = self.start(step, run_id)
        output, _ = process.communicate(timeout=700)
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


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "coin"
    subprocess.run([sys.executable, "-c", EXPORT, str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, model: Path, warm_parent: Path
) -> Iterator[Stack]:
    """A stack whose pipeline has version 1 in service."""
    made = Stack(tmp_path_factory.mktemp("stack"), model, warm_parent)
    made.up()
    try:
        canary, promote = made.deploy(made.package(1, compared_with=None))
        assert (canary.outcome, promote.outcome) == ("first", "promoted")
        yield made
    finally:
        made.down()


@pytest.fixture
def callers(stack: Stack) -> Iterator[Callers]:
    address = ("127.0.0.1", stack.settings.envoy_port)
    with Callers(address, PIPELINE, {"instances": [1.5]}, pause=0.01) as found:
        yield found
