"""`slipway token`: what is printed, what is kept, what is refused."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from contract.records.access import AgentTokens
from contract.tokens import token_digest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    return tmp_path


def token(*words: str) -> Result:
    return CliRunner().invoke(app, ["token", *words])


def test_a_token_is_printed_once_and_only_its_digest_is_kept(home: Path) -> None:
    added = token("add", "ci", "--right", "read", "--right", "propose", "--pipeline", "digits")
    assert added.exit_code == 0
    made = added.stdout.strip()
    (kept,) = AgentTokens.read(home / "agent.tokens.json").tokens
    assert (kept.digest, kept.rights) == (token_digest(made), ("read", "propose"))
    assert kept.pipelines == ("digits",)
    listed = token("list", "--json").stdout
    assert made not in listed
    (shown,) = json.loads(listed)
    assert (shown["name"], shown["pipelines"]) == ("ci", ["digits"])
    assert "digest" not in shown


def test_without_pipelines_it_is_for_all(home: Path) -> None:
    token("add", "dashboard", "--right", "read")
    (kept,) = AgentTokens.read(home / "agent.tokens.json").tokens
    assert kept.pipelines == ("*",)
    assert "read" in token("list").stdout


def test_a_token_is_removed_by_its_name(home: Path) -> None:
    for name in ("one", "two"):
        token("add", name, "--right", "read")
    assert token("remove", "one").exit_code == 0
    assert [one.name for one in AgentTokens.read(home / "agent.tokens.json").tokens] == ["two"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "ci", "--right", "read"), "there is a token 'ci'"),
        (("remove", "cl"), "no token 'cl' (there: ci)"),
    ],
)
def test_names_are_unique_and_known(home: Path, words: tuple[str, ...], said: str) -> None:
    token("add", "ci", "--right", "read")
    refused = token(*words)
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_an_unknown_right_is_refused(home: Path) -> None:
    refused = token("add", "ci", "--right", "rule")
    assert refused.exit_code == 2
    assert "rule" in refused.stderr
    assert not (home / "agent.tokens.json").exists()


def test_another_file_may_hold_them(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    assert token("add", "ci", "--right", "approve", "--file", str(file)).exit_code == 0
    assert AgentTokens.read(file).named("ci") is not None
    assert stat.S_ISREG(file.stat().st_mode)
