"""Every command with services up, on a pipeline fresh from the scaffold, and what MLflow has of it.

One story, told in order: each test goes on where the one before it ended.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from noise import a_readers_environment, noise_in
from sklearn.datasets import load_wine
from typer.testing import CliRunner

from cli.main import app
from cli.stack.stack_file import tracking_environment
from contract.places import CODE_FOLDER
from contract.records.stack import Stack
from contract.steps import STEPS

LOADING = """
import json, sys
import mlflow, pandas
rows = pandas.read_json(sys.argv[1], dtype=float)
print(json.dumps(mlflow.pyfunc.load_model("models:/wine@champion").predict(rows)))
"""


@dataclass
class Machine:
    """A state folder of its own, a folder of pipelines, and the command line."""

    folder: Path
    stack: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        folders = {"SLIPWAY_HOME": "home", "SLIPWAY_PIPELINES": "pipelines"}
        return {name: str(self.folder / folder) for name, folder in folders.items()}

    def slipway(self, *words: str) -> Any:
        """Run a command that must succeed; return the JSON that it prints, if it does."""
        result = CliRunner().invoke(app, words, env=self.environment)
        assert result.exit_code == 0, f"{words}: {result.output}"
        return json.loads(result.stdout) if "--json" in words else None

    def slipway_apart(self, *words: str) -> Any:
        """Run a command as `slipway` does, in a process that must be quiet."""
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words],
            cwd=CODE_FOLDER,
            env=a_readers_environment() | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert noise_in(done.stdout + done.stderr) == []
        return json.loads(done.stdout)

    def steered(self, *words: str) -> int | None:
        """Run a command that changes the traffic; return who is champion then."""
        plan = self.slipway(*words, "--json")
        weights = {arm["version"]: arm["weight_percent"] for arm in plan["arms"]}
        (champion,) = [version for version, weight in weights.items() if weight == 100] or [None]
        return champion


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.slipway("new", "wine", "--into", str(machine.folder / "pipelines"))
    machine.stack = machine.slipway("up", "--without-airflow", "--json")
    yield machine
    machine.slipway("down")


@pytest.fixture
def mlflow(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in tracking_environment(Stack.model_validate(machine.stack)).items():
        monkeypatch.setenv(name, value)
    return MlflowClient(machine.stack["tracking_uri"])


def aliases(mlflow: MlflowClient) -> dict[str, str]:
    """Return our version by alias."""
    entries = mlflow.get_registered_model("wine").aliases
    return {
        alias: mlflow.get_model_version("wine", number).tags["slipway.version"]
        for alias, number in entries.items()
    }


def test_a_scaffolded_pipeline_is_found_good(machine: Machine) -> None:
    found = {one["subject"]: one["state"] for one in machine.slipway("check", "wine", "--json")}
    assert set(found) == {
        "config",
        "code",
        "model",
        "metrics",
        "training",
        "sources",
        "disk",
        "services",
    }
    assert set(found.values()) == {"ok"}


def test_it_runs_as_it_is_into_service(machine: Machine) -> None:
    packaged = CliRunner().invoke(app, ("run", "wine", "--local"), env=machine.environment)
    assert packaged.exit_code == 0
    run_id = machine.slipway("status", "wine", "--json")["runs"][0]["run_id"]
    assert packaged.stderr.splitlines()[-1] == (
        "Version 1 is packaged, not deployed: canary and promotion were left out. Deploy it: "
        f"slipway run wine --local --resume {run_id} --deploy"
    )
    assert machine.slipway("status", "wine", "--json")["champion"] is None
    ended = machine.slipway(*("run", "wine", "--local", "--resume", run_id, "--deploy", "--json"))
    assert (ended["outcome"], ended["version"], ended["exit_code"]) == ("promoted", 1, 0)
    assert ended["metrics"]["train"]["parameters"] > 0
    standing = machine.slipway("status", "wine", "--json")
    assert (standing["champion"], standing["problem"]) == (1, "")
    assert [seen["version"] for seen in standing["observation"]["versions"]] == [1]
    assert standing["versions"][0]["metrics"]["accuracy"] > 0.8
    assert standing["runs"][0]["outcome"] == "promoted"


def test_mlflow_has_one_parent_with_a_child_per_step(mlflow: MlflowClient) -> None:
    experiment = mlflow.get_experiment_by_name("wine")
    assert experiment is not None
    runs: list[Run] = list(mlflow.search_runs([experiment.experiment_id]))
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert set(children) == set(STEPS)
    assert {c.data.tags["mlflow.parentRunId"] for c in children.values()} == {parent.info.run_id}
    assert {run.info.status for run in children.values()} == {"FINISHED"}
    pictures = [a.path for a in mlflow.list_artifacts(children["validate"].info.run_id)]
    assert "distributions.png" in pictures
    assert children["bless"].data.metrics["grower/accuracy"] > 0.8
    assert aliases(mlflow) == {"champion": "1"}
    assert parent.info.status == "FINISHED"
    assert (parent.data.tags["slipway.outcome"], parent.data.tags["slipway.version"]) == (
        "promoted",
        "1",
    )
    assert parent.data.metrics["grower/accuracy"] > 0.8
    assert parent.data.metrics["model_size_kib"] > 0
    assert parent.data.tags["slipway.served_at"].endswith("/v1/models/wine/versions/1")
    assert "learning_rate" in parent.data.params


def test_what_mlflow_loads_answers_as_the_server_does(machine: Machine, tmp_path: Path) -> None:
    """In a process of its own, as a person at a notebook would."""
    package = next((machine.folder / "home").glob("**/versions/1/package.json")).parent
    lines = (package / "examples.jsonl").read_text().splitlines()[:5]
    rows = tmp_path / "rows.json"
    rows.write_text(f"[{','.join(lines)}]")
    answer = machine.slipway("predict", "wine", "--file", str(rows), "--json")
    served = [list(one["grower"]["scores"].values()) for one in answer["predictions"]]
    environment = os.environ | tracking_environment(Stack.model_validate(machine.stack))
    loaded = subprocess.run(
        [sys.executable, "-c", LOADING, str(rows)],
        cwd=CODE_FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(loaded.stdout.splitlines()[-1])
    assert [pytest.approx(row, abs=1e-6) for row in found] == served


def test_it_answers_rows_files_and_callers(machine: Machine, tmp_path: Path) -> None:
    wine = load_wine(as_frame=True).frame
    names = {"od280/od315_of_diluted_wines", "target"}
    columns = [name for name in wine.columns if name not in names]
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps({"instances": wine[columns].head(3).to_dict("records")}))
    answer = machine.slipway("predict", "wine", "--file", str(rows), "--json")
    assert answer["version"] == 1
    assert {len(p["grower"]["scores"]) for p in answer["predictions"]} == {3}
    wine[columns].to_csv(tmp_path / "wine.csv", index=False)
    paths = ("--in", str(tmp_path / "wine.csv"), "--out", str(tmp_path / "answers.csv"))
    scored = machine.slipway_apart("score", "wine", *paths, "--key", columns[0], "--json")
    assert (scored["rows"], scored["bad_rows"], scored["version"]) == (len(wine), 0, 1)
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert answers["row"].tolist() == list(range(1, len(wine) + 1))  # as predict counts
    assert answers[columns[0]].tolist() == wine[columns[0]].tolist()
    load = machine.slipway("loadtest", "wine", "--concurrency", "2", "--seconds", "1", "--json")
    assert load["requests"] > 0
    assert load["errors"] == 0
    labelled = wine[columns].head(2).assign(label="class_1")
    labelled.to_csv(tmp_path / "new.csv", index=False)
    added = machine.slipway("labels", "add", "wine", str(tmp_path / "new.csv"), "--json")
    assert (added["added"], added["corrected"], added["duplicates"], added["bad"]) == (2, 0, 0, [])
    assert "Airflow is not running" in added["announcement"]


def test_callers_traffic_takes_a_new_version_into_service(
    machine: Machine, mlflow: MlflowClient
) -> None:
    replay = [sys.executable, "-m", "cli.main", "replay", "wine", "--rate", "100", "--json"]
    environment = {**os.environ, **machine.environment}
    callers = subprocess.Popen(replay, cwd=CODE_FOLDER, env=environment, stdout=subprocess.PIPE)
    quick = ("ladder_percent=[100]", "shadow_requests=10", "min_seconds_per_step=2")
    settings = [word for setting in quick for word in ("--set", f"deploy.{setting}")]
    try:
        ended = machine.slipway("run", "wine", "--local", "--redeploy", "1", *settings, "--json")
    finally:
        callers.terminate()
        said, _ = callers.communicate(timeout=30)
    assert (ended["outcome"], ended["version"]) == ("promoted", 2)
    assert json.loads(said)["errors"] == 0
    assert aliases(mlflow) == {"champion": "2"}
    experiment = mlflow.get_experiment_by_name("wine")
    assert experiment is not None
    tried = "attributes.run_name = 'canary'"
    (latest, *_) = mlflow.search_runs([experiment.experiment_id], tried)
    pictures = [artifact.path for artifact in mlflow.list_artifacts(latest.info.run_id)]
    assert "rollout.png" in pictures
    page = f"{machine.stack['agent_url']}/rollouts/wine"
    assert latest.data.tags["slipway.rollout"] == page
    assert "version 2" in httpx.get(page).text


def test_a_person_steers_the_traffic(machine: Machine, mlflow: MlflowClient) -> None:
    assert machine.steered("rollback", "wine") == 1
    assert aliases(mlflow) == {"champion": "1"}
    refused = CliRunner().invoke(app, ("promote", "wine"), env=machine.environment)
    assert refused.exit_code == 2
    assert "rolled back from it" in refused.stderr
    assert machine.steered("promote", "wine", "--version", "2", "--force") == 2
    assert aliases(mlflow) == {"champion": "2"}
    assert machine.steered("teardown", "wine", "--version", "1") == 2
    assert machine.steered("teardown", "wine") is None
    standing = machine.slipway("status", "wine", "--json")
    assert ([one["version"] for one in standing["versions"]], standing["champion"]) == ([2], None)


def test_without_services_a_version_is_packaged_and_not_deployed(machine: Machine) -> None:
    machine.slipway("down")
    for words in (("--deploy",), ("--redeploy", "2")):
        refused = CliRunner().invoke(
            app, ("run", "wine", "--local", *words), env=machine.environment
        )
        assert refused.exit_code == 1
        assert "start them with 'slipway up'" in refused.stderr
    ended = machine.slipway("run", "wine", "--local", "--redeploy", "2", "--no-deploy", "--json")
    assert (ended["outcome"], ended["version"]) == ("packaged", 3)
    standing = machine.slipway("status", "wine", "--json")
    assert standing["runs"][0]["outcome"] == "packaged"
    assert standing["problem"].startswith("services are not running, so no requests are answered")
