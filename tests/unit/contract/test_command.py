"""One command line, written and read by the same class."""

import pytest

from contract.command import StepCommand


def test_a_command_line_is_read_back_as_it_was_written() -> None:
    command = StepCommand(
        "promote", "digits", "manual__1", "/r", {"train.steps": 5, "bless.metric": "auc"}, 3
    )

    written = command.arguments(python="py")

    assert written[:3] == ["py", "-m", "components.deploy"]
    assert StepCommand.parse("deploy", written[3:]) == command


def test_a_component_with_one_step_has_no_stage() -> None:
    written = StepCommand("ingest", "digits", "r", "/r").arguments(python="py")

    expected = "py -m components.ingest --pipeline digits --run-id r --root /r"
    assert " ".join(written) == expected


def test_a_missing_argument_ends_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        StepCommand.parse("ingest", ["--pipeline", "digits"])

    assert caught.value.code == 2
    assert "--run-id" in capsys.readouterr().err
