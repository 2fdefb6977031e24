"""What is looked at before a run."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli import extras
from cli.checks.preflight import (
    check_disk,
    check_pipeline,
    check_services,
    check_sources,
    check_training,
)
from contract.loader import load_pipeline
from contract.records.stack import Stack
from contract.schema.pipeline import PipelineConfig


def config_with(folder: Path, source: dict[str, object]) -> PipelineConfig:
    document = {
        "name": folder.name,
        "features": {"x": {"dtype": "float32"}},
        "heads": {"y": {"task": "regression"}},
        "ingest": {"source": source},
    }
    folder.mkdir(exist_ok=True)
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(document))
    return load_pipeline(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "rents"


def test_a_data_set_inside_a_library_needs_no_file(folder: Path) -> None:
    config = config_with(folder, {"kind": "sklearn", "dataset": "wine"})
    needs_none, columns = check_sources(config)
    assert (needs_none.state, columns.state) == ("ok", "error")
    assert "missing columns: 'x', 'y'" in columns.message


def test_a_missing_file_is_an_error_that_names_it(folder: Path) -> None:
    config = config_with(folder, {"kind": "csv", "files": ["data/*.csv"]})
    (finding,) = check_sources(config)
    assert finding.state == "error"
    assert f"{folder}/data/*.csv: no such file" in finding.message


def test_files_in_folders_of_any_depth_are_found_as_ingestion_finds_them(folder: Path) -> None:
    config = config_with(folder, {"kind": "csv", "files": ["data/**/*.csv"]})
    (folder / "data" / "2026" / "may").mkdir(parents=True)
    (folder / "data" / "2026" / "may" / "a.csv").write_text("x,y\n1,2\n")
    states = [f.state for f in check_sources(config)]
    assert states == ["ok", "ok"]


def test_an_empty_file_is_an_error(folder: Path) -> None:
    config = config_with(folder, {"kind": "csv", "files": ["a.csv"]})
    (folder / "a.csv").touch()
    (finding,) = check_sources(config)
    assert (finding.state, "a.csv: empty" in finding.message) == ("error", True)


def test_a_column_that_the_file_lacks_is_named_with_the_nearest(folder: Path) -> None:
    config = config_with(folder, {"kind": "csv", "files": ["a.csv"]})
    (folder / "a.csv").write_text("x,why,yy\n1,2,3\n")
    _, finding = check_sources(config)
    assert finding.state == "error"
    assert "missing columns: 'y'; did you mean 'yy'?" in finding.message


def test_columns_are_counted_where_all_are_there(folder: Path) -> None:
    config = config_with(folder, {"kind": "csv", "files": ["a.csv"]})
    (folder / "a.csv").write_text("x,y\n1,2\n")
    _, finding = check_sources(config)
    assert (finding.state, "2 columns" in finding.message) == ("ok", True)


def test_both_files_of_an_idx_pair_are_looked_at(folder: Path) -> None:
    config = config_with(folder, {"kind": "idx", "images": "i.gz", "labels": "l.gz"})
    (folder / "i.gz").write_bytes(b"1234")
    states = [f.state for f in check_sources(config)]
    assert states == ["ok", "error"]


def test_a_root_that_cannot_be_written_is_an_error(folder: Path) -> None:
    config = config_with(folder, {"kind": "sklearn", "dataset": "wine"})
    finding = check_disk(config, Path("/proc/slipway"))
    assert finding.state == "error"


def test_free_space_is_looked_at_where_the_root_will_be(folder: Path, tmp_path: Path) -> None:
    config = config_with(folder, {"kind": "sklearn", "dataset": "wine"})
    finding = check_disk(config, tmp_path / "not" / "yet")
    assert (finding.state, str(tmp_path) in finding.message) == ("ok", True)


def test_services_that_are_not_up_are_a_warning_only() -> None:
    (finding,) = check_services()
    assert (finding.state, "slipway up" in finding.message) == ("warning", True)


def test_services_that_do_not_answer_are_errors(tmp_path: Path) -> None:
    # port 9 (discard) is refused on loopback
    stack = Stack(root=str(tmp_path), tracking_uri="http://127.0.0.1:9")
    stack.write(tmp_path / "slipway-home" / "stack.json")
    (finding,) = check_services()
    assert finding.state == "error"
    assert "MLflow at http://127.0.0.1:9/health" in finding.message


@pytest.mark.parametrize(("gpus", "states"), [(2, ["warning", "ok"]), (1, ["ok"])])
def test_training_that_leaves_gpus_idle_is_a_warning(
    folder: Path, gpus: int, states: list[str]
) -> None:
    config = config_with(folder, {"kind": "sklearn", "dataset": "wine"})
    found = list(check_training(config, gpus))
    assert [finding.state for finding in found] == states
    assert gpus == 1 or "drives one GPU" in found[0].message


def test_gpus_that_nobody_could_count_are_counted_here(folder: Path) -> None:
    config = config_with(folder, {"kind": "sklearn", "dataset": "wine"})
    (finding,) = (f for f in check_training(config, None) if f.state != "warning")
    assert (finding.subject, finding.state) == ("training", "ok")


def test_a_check_imports_large_libraries_in_its_child_only() -> None:
    check = (
        "import sys\nfrom pathlib import Path\nfrom cli.checks.preflight import check_pipeline\n"
        "from contract.pipelines import find_pipeline\n"
        "found = list(check_pipeline(find_pipeline('digits'), {}, Path('/tmp')))\n"
        "assert {'code', 'metrics', 'training', 'sources'} <= {one.subject for one in found}\n"
        "print({'tensorflow', 'keras', 'apache_beam', 'sklearn', 'mlflow'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_the_components_the_config_is_checked_and_the_rest_is_said_to_be_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_with(folder, {"kind": "csv", "files": ["a.csv"]})
    (folder / "a.csv").write_text("x,y\n1,2\n")
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    findings = [(f.subject, f.state) for f in check_pipeline(folder, {}, folder)]
    assert findings[:3] == [("config", "ok"), ("code", "warning"), ("sources", "ok")]
    (code,) = (f for f in check_pipeline(folder, {}, folder) if f.subject == "code")
    assert "nor columns of files were looked at" in code.message
    assert "pip install 'slipway[components]'" in code.message
