"""The tutorial, command by command, as a reader would type it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from noise import a_readers_environment, noise_in

from contract.places import CODE_FOLDER

pytestmark = pytest.mark.long

TUTORIAL = CODE_FOLDER / "docs" / "tutorial.md"
COMMANDS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(CODE_FOLDER / "docs")
    environment = {
        **a_readers_environment(),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(CODE_FOLDER),
        "SLIPWAY_HOME": str(tmp_path / "home"),
        "SLIPWAY_PIPELINES": str(tmp_path / "pipelines"),
    }

    def shell(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert noise_in(done.stdout + done.stderr) == []
        return done.stdout

    blocks = COMMANDS.findall(TUTORIAL.read_text(encoding="utf-8"))
    assert len(blocks) == 11
    try:
        said = shell("\n".join(blocks))
    finally:
        subprocess.run(["slipway", "down"], cwd=tmp_path, env=environment, check=False)
    assert "row 1: churned yes (yes 0." in said  # new, calls often, hardly uses it
    found = re.search(r'{\s*"predictions"', said)
    assert found is not None
    answered, _ = json.JSONDecoder().raw_decode(said[found.start() :])
    ((no, yes),) = answered["predictions"]
    assert yes > 0.5 > no
    standing = json.loads(shell("slipway status churn --json"))
    assert [run["outcome"] for run in standing["runs"]] == ["promoted", "promoted"]
    assert standing["champion"] == 1
    assert [mark["version"] for mark in standing["plan"]["bad"]] == [2]
