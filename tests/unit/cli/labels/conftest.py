"""A pipeline with a label loop, and rows that a version has answered."""

from pathlib import Path

import pytest
from label_turns import NAME, NOW, configure, log_rows

from cli.stack.stack_file import artifact_root
from contract.layout import PipelineLayout


@pytest.fixture
def pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a pipeline on the digits that has a loop."""
    folder = tmp_path / "pipelines"
    configure(folder)
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder))
    return folder


@pytest.fixture
def layout(pipelines: Path) -> PipelineLayout:
    layout = PipelineLayout(artifact_root(), NAME)
    log_rows(layout, "a", 20, NOW)
    return layout
