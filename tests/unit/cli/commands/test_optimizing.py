"""Options of `slipway optimize`, before any model is loaded."""

import pytest
from typer.testing import CliRunner

from cli.main import app


@pytest.mark.parametrize(("option", "is_old"), [("--engines", False), ("--runtimes", True)])
def test_engines_are_read_under_both_names(option: str, is_old: bool) -> None:
    command = ["optimize", "model", "--data", "rows", "--out", "small", option, "litert,sofa"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "engines.candidates.1: Input should be 'tensorflow'" in result.stderr
    assert ("--runtimes: deprecated name; write '--engines'" in result.stderr) is is_old


def test_help_shows_the_new_name_only() -> None:
    shown = CliRunner().invoke(app, ["optimize", "--help"], env={"COLUMNS": "200"}).stdout
    assert "--engines" in shown
    assert "--runtimes" not in shown
