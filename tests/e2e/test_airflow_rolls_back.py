"""The loop's DAG rolls back a version that labels show to be worse: real Airflow and agent."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from airflow_stack import AirflowStack

from cli.demo.labellers import label_page
from contract.loader import load_pipeline
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.package import InputSpec, PackageManifest
from contract.records.stack import Stack as StackRecord
from contract.records.traffic import TrafficPlan
from contract.tokens import bearer

pytestmark = [pytest.mark.long, pytest.mark.thorough]  # test_by_labels.py tests the command

NAME, LOOP = "judged", "judged.labels"
ROWS, SECONDS = 60, 600


@pytest.fixture
def serving(airflow_stack: AirflowStack) -> Iterator[Any]:
    """A data plane below Airflow's artifacts: supervisord, Envoy, agent, stand-in servers."""
    path = Path(__file__).parents[1] / "integration" / "agent" / "conftest.py"
    specification = importlib.util.spec_from_file_location("agent_stack", path)
    assert specification is not None and specification.loader is not None
    module: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.PIPELINE = NAME
    stack = module.Stack(airflow_stack.state)
    stack.up()
    yield stack
    stack.down()
    (airflow_stack.state / "stack.json").unlink(missing_ok=True)


def log_rows(stack: AirflowStack, version: int) -> list[str]:
    """Log rows for which a version has predicted '0'; return their request ids."""
    config, now = load_pipeline(stack.pipelines / NAME), datetime.now(UTC) - timedelta(hours=1)
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    ids = [f"v{version}-{number}" for number in range(ROWS)]
    row = {"time": now, "row": 0, "version": version, "arm": "stable", "signature": "predict"}
    row |= {"status": 200, "latency_seconds": 0.001, "predicted:digit": 0, "confidence:digit": 0.9}
    row |= {"scores:digit": [0.9] + [0.1 / 9] * 9}
    rows = [
        {**row, "request_id": one, "input:image": [[float(n)] * 8] * 8} for n, one in enumerate(ids)
    ]
    table = pa.Table.from_pylist(rows, log_schema(config.heads, specs))
    folder = stack.layout(NAME, "none").of_pipeline.predictions(version)
    write_rows(LogFile(hour_of(now), "h-1-a", 0, ROWS, folder), table)
    return ids


def slipway(stack: AirflowStack, *words: str) -> str:
    command = [sys.executable, "-m", "cli.main", *words]
    done = subprocess.run(command, env=stack.environment, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.mark.timeout(3000)
def test_what_programs_report_rolls_a_version_back_in_the_loops_dag(
    airflow_stack: AirflowStack, serving: Any, tmp_path: Path
) -> None:
    stack = airflow_stack
    labels = {"budget": 5, "rolls_back": True}
    stack.add(NAME, serve={"prediction_log_inputs_ratio": 1.0}, labels=labels)
    stack.wait(lambda: stack.call("GET", f"/dags/{LOOP}").is_success, SECONDS)
    heads, truth = load_pipeline(stack.pipelines / NAME).heads, list[dict[str, str]]()
    for version, right in {1: "0", 2: "1"}.items():
        serving.package(version)
        path = serving.layout.package_manifest(version)
        PackageManifest.read(path).model_copy(update={"heads": heads}).write(path)
        serving.serve({version: 100}, standby=(1,) if version == 2 else ())
        truth += [{"request_id": one, "label": right} for one in log_rows(stack, version)]
    StackRecord(
        root=str(serving.layout.root),
        agent_url=f"http://127.0.0.1:{serving.settings.port}",
        agent_token_file=str(serving.settings.token_file),
    ).write(stack.state / "stack.json")
    slipway(stack, "labels", "loop", NAME, "--only", "harvest")
    token = slipway(stack, "token", "add", "bank", "--right", "report", "--pipeline", NAME)
    with label_page((), NAME, stack.environment, tmp_path / "page.log") as page:
        address, body = f"{page.url}/truth/{NAME}", {"labels": truth}
        told = httpx.post(address, json=body, headers=bearer(token), trust_env=False)
    assert told.json() == {"added": 2 * ROWS, "known": 0, "corrected": 0, "refused": []}

    stack.trigger(LOOP, "judging", {}).raise_for_status()
    assert stack.await_end(LOOP, "judging", SECONDS) == "success"
    plan: TrafficPlan = serving.client.plan(NAME)
    assert (plan.champion, plan.author) == (1, "the label loop")
    words = "version 2 is right in 0.0% of 60 labelled requests"
    assert words in plan.reason and words in stack.log(LOOP, "judging", "learn")
    assert words in stack.get(f"/dags/{LOOP}/dagRuns/judging")["note"]
