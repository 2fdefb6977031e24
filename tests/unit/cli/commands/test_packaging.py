"""What `slipway package` and `slipway deploy` refuse before anything is copied or started."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

runner = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"x")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "Half"], "--name 'Half': expected a lower-case letter, then"),
        (["--name", "digits"], "--name digits: taken by the pipeline in"),
        (["--name", "half", "--set", "serve.grcp=true"], "did you mean 'grpc'?"),
        (["--name", "half", "--set", "serve=1", "--set", "serve.grcp=true"], "mean 'grpc'?"),
        (["--name", "half", "--rows", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_package_refuses(model: Path, options: list[str], said: str) -> None:
    result = runner.invoke(app, ["package", "--from", str(model), *options])
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())


def test_a_name_under_which_a_pipeline_has_versions_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = PipelineLayout(tmp_path / "artifacts", "gone")
    PackageManifest(
        pipeline="gone",
        version=3,
        created_at=datetime.now(UTC),
        digest="sha256:0",
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("0", "1"))},
        serve=ServeConfig(),
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    ).write(layout.package_manifest(3))
    monkeypatch.setattr("cli.stack.stack_file.artifact_root", lambda: layout.root)
    result = runner.invoke(app, ["package", "--from", str(model), "--name", "gone"])
    assert result.exit_code == 2
    assert "taken: its version 3 was trained by a pipeline" in " ".join(result.stderr.split())
    assert layout.kept_versions() == [3]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--package", "m", "--version", "2"], 2, "--package and --version: expected one of them"),
        (["--rows", "r.json"], 2, "--rows: expected --package, too"),
        ([], 1, "start them with 'slipway up'"),
    ],
)
def test_deploy_refuses(options: list[str], code: int, said: str) -> None:
    result = runner.invoke(app, ["deploy", "half", *options])
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())


def test_a_version_that_was_never_packaged_is_not_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.commands.packaging import imported_layout
    from contract.errors import NotFoundError

    monkeypatch.setattr("cli.stack.stack_file.artifact_root", lambda: tmp_path)
    with pytest.raises(NotFoundError, match="no version is packaged; make one with .* --name half"):
        imported_layout("half")


def test_status_knows_an_imported_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = PipelineLayout(tmp_path, "half")
    PackageManifest(
        pipeline="half",
        version=1,
        created_at=datetime.now(UTC),
        digest="sha256:0",
        format="saved_model",
        inputs={},
        heads={},
        serve=ServeConfig(),
        provenance=Provenance(run_id="import-1", git_commit="", data_digests={}, versions={}),
    ).write(layout.package_manifest(1))
    (layout.version(1) / "model").mkdir()
    for place in ("cli.stack.stack_file", "cli.runs.standing"):
        monkeypatch.setattr(f"{place}.run_root", lambda: tmp_path)
    result = runner.invoke(app, ["status", "half", "--json"])
    assert result.exit_code == 0, result.output
    assert [one["version"] for one in json.loads(result.stdout)["versions"]] == [1]


def test_a_version_becomes_an_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, target = PipelineLayout(tmp_path / "artifacts", "half"), tmp_path / "image"
    model = layout.version(1) / "model"
    model.mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"x")
    PackageManifest(
        pipeline="half",
        version=1,
        created_at=datetime.now(UTC),
        digest=digest_directory(model),
        inputs={},
        heads={},
        serve=ServeConfig(),
        provenance=Provenance(run_id="import-1", git_commit="", data_digests={}, versions={}),
    ).write(layout.package_manifest(1))
    monkeypatch.setattr("cli.stack.stack_file.artifact_root", lambda: layout.root)
    command = ["image", "half", "1", "--to", str(target)]
    made = json.loads(runner.invoke(app, [*command, "--json"]).stdout)
    (described,) = json.loads((target / "index.json").read_text())["manifests"]
    assert made == {"folder": str(target), "digest": described["digest"]}
    again = runner.invoke(app, command)
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)
    assert runner.invoke(app, ["image", "half", "2", "--to", "elsewhere"]).exit_code == 2
