"""The wheel with its base dependencies alone: what works, and what names a missing extra."""

import json
from pathlib import Path

import pytest
from installed import Environment

EVERY_HELP = """
from typer.main import get_command
from typer.testing import CliRunner
import slipway
from cli.main import app

for name in get_command(app).commands:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0, (name, shown.output)
    print(name)
"""


@pytest.fixture
def churn(bare: Environment, tmp_path: Path) -> Path:
    """A workspace with a pipeline."""
    done = bare.run("slipway", "new", "churn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Created {tmp_path}/configs/pipelines/churn" in done.stderr.replace("\n", "")
    return tmp_path


def test_the_help_of_every_command_is_shown(bare: Environment, tmp_path: Path) -> None:
    assert bare.run("python", "-c", "import tensorflow", cwd=tmp_path).returncode == 1
    assert "Make a pipeline folder" in bare.run("slipway", "--help", cwd=tmp_path).stdout
    done = bare.run("python", "-c", EVERY_HELP, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"new", "check", "schema", "run", "up", "optimize"} <= set(done.stdout.split())


def test_a_config_is_checked(bare: Environment, churn: Path) -> None:
    done = bare.run("slipway", "check", "churn", "--json", cwd=churn)
    assert done.returncode == 0, done.stderr
    findings = {one["subject"]: one for one in json.loads(done.stdout)}
    assert findings["config"]["state"] == "ok"
    assert findings["code"]["state"] == "warning"
    assert "pip install 'slipway[components]'" in findings["code"]["message"]
    wrong = bare.run("slipway", "check", "churn", "--set", "train.stps=1", cwd=churn)
    assert wrong.returncode == 2
    assert "did you mean 'steps'?" in wrong.stdout


def test_the_schema_that_new_names_to_editors_is_there(bare: Environment, churn: Path) -> None:
    folder = churn / "configs" / "pipelines" / "churn"
    first = (folder / "pipeline.yaml").read_text().splitlines()[0]
    schema = folder / first.partition("$schema=")[2]
    assert "train" in json.loads(schema.read_text())["properties"]
    assert schema.resolve() == churn / "configs" / "pipeline.schema.json"


@pytest.mark.parametrize(
    ("words", "extras"),
    [
        (["run", "churn", "--local"], "components,serving"),
        (["up"], "components,serving,airflow"),
        (["up", "--without-airflow"], "components,serving"),
        (["tensorboard", "churn"], "components"),
        (["replay", "churn", "--rate", "5"], "components"),
        (["optimize", ".", "--data", "configs", "--out", "out"], "components"),
    ],
)
def test_a_command_without_its_extra_says_how_to_install_it(
    words: list[str], extras: str, bare: Environment, churn: Path
) -> None:
    done = bare.run("slipway", *words, cwd=churn)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    assert f"pip install 'slipway[{extras}]', or 'slipway[local]' for everything" in said
    assert not list(churn.glob(".slipway/artifacts/**/*.json"))
