"""`slipway tensorboard`: refusals; what it shows is TensorBoard's."""

from typer.testing import CliRunner

from cli.main import app

runner = CliRunner()


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
