"""The parent MLflow run of a pipeline run."""

from pathlib import Path

from contract.layout import RunLayout
from contract.tracked_run import parent_run_id


def test_the_id_is_what_the_first_step_has_noted(tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "wine", "r1")
    assert parent_run_id(run) == ""
    run.tracking("run").parent.mkdir(parents=True)
    run.tracking("run").write_text("abc\n")
    assert parent_run_id(run) == "abc"
