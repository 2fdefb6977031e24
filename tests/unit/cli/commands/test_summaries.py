"""`slipway columns`: a picture; `slipway tensorboard`: refusals, what it shows is TensorBoard's."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.stack.stack_file import artifact_root
from components.validate.statistics import ColumnStatistics, DataStatistics
from contract.layout import PipelineLayout
from contract.records.data import ValidateRecord
from contract.records.record import Result

runner = CliRunner()


@pytest.fixture
def validated() -> None:
    """Make `digits` have a run that has validated its data."""
    run = PipelineLayout(artifact_root(), "digits").run("one")
    folder = run.step("validate")
    folder.mkdir(parents=True)
    job = ColumnStatistics(
        kind="categorical", rows=3, missing=0, values=3, most_common={"cook": 2, "clerk": 1}
    )
    DataStatistics(splits={"train": {"job": job}}).write(folder / "statistics.json")
    record = ValidateRecord(statistics="statistics.json", data_schema="schema.json")
    Result(
        step="validate",
        pipeline="digits",
        run_id="one",
        attempt=1,
        started_at=datetime(2027, 1, 1, tzinfo=UTC),
        seconds=1.0,
        inputs={},
        detail=record.model_dump(mode="json"),
    ).write(run.result("validate"))


@pytest.mark.usefixtures("validated")
def test_columns_are_drawn_to_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "columns.png"
    result = runner.invoke(app, ["columns", "digits", "job", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "the train split of run one" in result.stderr + result.stdout
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("validated")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["jbo"], "digits: no column 'jbo'; did you mean 'job'?"),
        (["--run", "two"], "digits: run 'two' has not validated data"),
        (["--out", "columns.sofa"], "--out columns.sofa: Format 'sofa' is not supported"),
    ],
)
def test_columns_refuses_what_cannot_be_drawn(arguments: list[str], told: str) -> None:
    result = runner.invoke(app, ["columns", "digits", *arguments])
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_a_pipeline_whose_data_was_never_validated_is_told_so() -> None:
    result = runner.invoke(app, ["columns", "digits"])
    assert result.exit_code == 2
    assert "digits: no run has validated data" in " ".join(result.stderr.split())


def test_a_pipeline_that_has_not_trained_is_told_how_to() -> None:
    result = runner.invoke(app, ["tensorboard", "digits"])
    assert result.exit_code == 2
    assert (
        "no run of 'digits' has trained yet; start one with 'slipway run digits --local'"
        in result.stderr
    )


def test_a_misspelt_pipeline_names_the_nearest() -> None:
    result = runner.invoke(app, ["tensorboard", "digit"])
    assert result.exit_code == 2
    assert "did you mean 'digits'?" in result.stderr
