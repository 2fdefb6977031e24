"""The command as a whole: help, errors, how long it takes to start."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli.main import app


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, those inside of groups too."""
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield path
        return
    for name, one in command.commands.items():
        yield from commands(one, (*path, name))


COMMANDS = [*commands()]
GROUPS = [words[:-1] for words in COMMANDS if len(words) > 1]


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_help_names_every_command(runner: CliRunner) -> None:
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    assert {"new", "run", "rollout", "labels", "up"} <= {words[0] for words in COMMANDS}
    assert [words for words in COMMANDS if words[0] not in result.output] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example(runner: CliRunner, words: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*words, "--help"])
    assert f"$ slipway {' '.join(words)}" in result.output


@pytest.mark.parametrize("words", [(), *GROUPS, *COMMANDS], ids=" ".join)
def test_help_shows_no_type_beside_a_flag(runner: CliRunner, words: tuple[str, ...]) -> None:
    shown = runner.invoke(app, [*words, "--help"]).output
    assert "--help" in shown
    assert "bool" not in shown


def test_help_shows_the_type_of_other_options(runner: CliRunner) -> None:
    assert "<float" in runner.invoke(app, ["loadtest", "--help"]).output


def test_an_error_is_one_clean_message_with_its_own_exit_code(runner: CliRunner) -> None:
    result = runner.invoke(app, ["check", "digitz"])
    assert result.exit_code == 2
    assert "error: pipeline 'digitz': not found; did you mean 'digits'?" in result.stderr
    assert "Traceback" not in result.output


def test_debug_keeps_the_traceback(runner: CliRunner) -> None:
    result = runner.invoke(app, ["--debug", "check", "digitz"])
    assert type(result.exception).__name__ == "NotFoundError"


@pytest.mark.parametrize("variable", ["PYTHONIOENCODING", "LC_ALL"])
def test_a_terminal_that_lacks_a_character_shows_its_code(variable: str) -> None:
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    value = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}[variable]
    words = r"data.print('gr\xf6\xdfe \u2713'); say('[green]\u2026[/] \udcff')"
    code = f"from cli.output import data, say; {words}"
    for command, exit_code in ((["-c", code], 0), (["-m", "cli.main", "check", "größe"], 2)):
        done = subprocess.run(
            [sys.executable, *command],
            env={**os.environ, **plain, variable: value},
            capture_output=True,
            check=False,
        )
        shown = (done.stdout + done.stderr).decode("ascii")
        assert (done.returncode, "Traceback" in shown) == (exit_code, False)
        assert exit_code or r"gr\xf6\xdfe \u2713" in shown


def test_importing_the_command_imports_nothing_heavy() -> None:
    heavy = ("tensorflow", "airflow", "mlflow", "apache_beam", "numpy", "pydantic", "httpx")
    code = f"import sys, cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    """Processor time, and the best of three: other tests may run beside this one."""
    code = (
        "import resource; from cli.main import app; app(['--help'], standalone_mode=False); "
        "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"
    )
    command = [sys.executable, "-c", code]
    shown = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout.strip().splitlines()[-1]) for run in shown) < 0.5
