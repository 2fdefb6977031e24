"""What is refused of a package before any server is started."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from components.package.imported import Import, import_model
from components.package.server_process import RunningServer
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.records.optimization import ServedEngine
from contract.records.package import PackageManifest, Provenance
from contract.schema.imported import PackagingConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory
from serving.server.options import Options
from serving.standalone.packaged import PackagedServer


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "saved_model.pb").write_bytes(b"x")
    PackageManifest(
        pipeline="digits",
        version=3,
        created_at=datetime.now(UTC),
        digest="sha256:0",
        inputs={},
        heads={},
        serve=ServeConfig(),
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")
    return folder


def imported(
    package: Path, layout: PipelineLayout, settings: PackagingConfig | None = None
) -> None:
    import_model(Import(package, [], "", settings or PackagingConfig()), layout)


def rewritten(package: Path, **changes: Any) -> None:
    """Change what a package says of itself."""
    path = package / "package.json"
    PackageManifest.read(path).model_copy(update=changes).write(path)


def test_a_package_that_was_changed_is_refused(package: Path, tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path / "artifacts", "half")
    with pytest.raises(DataError, match="corrupt: the digest of its model is sha256:.*says sha256"):
        imported(package, layout)
    assert [one.name for one in layout.versions.iterdir()] == [".numbers"]


def test_a_package_without_its_model_is_refused(package: Path, tmp_path: Path) -> None:
    (package / "model").rename(tmp_path / "elsewhere")
    layout = PipelineLayout(tmp_path / "artifacts", "half")
    with pytest.raises(DataError, match="broken package: 'model' is missing"):
        imported(package, layout)
    assert layout.kept_versions() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "../outside"},
        {"model": "/outside"},
        {"model": "."},
        {"examples": "model/../../outside"},
        {"engine": ServedEngine(name="litert", path="../outside")},
    ],
)
def test_a_package_that_names_files_outside_its_folder_is_refused(
    package: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    (tmp_path / "outside").mkdir()
    rewritten(package, **{"digest": digest_directory(package / "model"), **changes})
    layout = PipelineLayout(tmp_path / "artifacts", "half")
    with pytest.raises(DataError, match="package.json names '.*', expected a place below its fold"):
        imported(package, layout)
    assert [one.name for one in layout.versions.iterdir()] == [".numbers"]


def test_a_model_that_cannot_be_read_whole_is_refused_by_the_name_of_the_part(
    package: Path, tmp_path: Path
) -> None:
    model = (package / "model").rename(tmp_path / "model")
    (model / "variables").symlink_to(tmp_path / "gone")
    layout = PipelineLayout(tmp_path / "artifacts", "half")
    with pytest.raises(DataError, match="--from .*: cannot be copied: .*/model/variables: .*No s"):
        imported(model, layout)
    assert layout.kept_versions() == []


def test_settings_that_are_given_replace_those_of_a_package(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the server, which shows with what it would have been started."""
    rewritten(package, digest=digest_directory(package / "model"))

    @contextmanager
    def refused(folder: Path, _log: Path) -> Iterator[None]:
        serve = PackageManifest.read(folder / "package.json").serve
        raise DataError(f"drain {serve.drain_seconds:g}, body {serve.max_body_mb:g}, {serve.grpc}")
        yield

    monkeypatch.setattr("components.package.imported.running_server", refused)
    rewritten(package, serve=ServeConfig(max_body_mb=3.0, grpc=False))
    settings = PackagingConfig.model_validate_json('{"serve": {"drain_seconds": 7.0}}')
    with pytest.raises(DataError, match="drain 7, body 3, False"):
        imported(package, PipelineLayout(tmp_path / "artifacts", "half"), settings)


class Described(BaseHTTPRequestHandler):
    """A stand-in for the server's process: describes two signatures, and refuses all rows."""

    def do_GET(self) -> None:
        one = {"method_name": "predict", "inputs": {}, "outputs": {}}
        signatures = {"signature_def": {"serving_default": one, "other": one}}
        self.answer(200, {"metadata": {"signature_def": signatures}})

    def do_POST(self) -> None:
        self.answer(400, {})

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("rows", "named", "expected"),
    [
        ([], "", "other"),
        ([], "serving_default", "serving_default"),
        ([2.0], "", "serving_default"),  # rows that are given are for the default one
    ],
)
def test_the_rows_of_a_package_are_for_the_signature_that_it_says(
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[Any],
    named: str,
    expected: str,
) -> None:
    (package / "rows.jsonl").write_text("1.0\n")
    kept = {"format": "saved_model", "examples": "rows.jsonl", "examples_signature": "other"}
    rewritten(package, digest=digest_directory(package / "model"), **kept)

    @contextmanager
    def described(_folder: Path, log: Path) -> Iterator[RunningServer]:
        with (
            ThreadingHTTPServer(("127.0.0.1", 0), Described) as server,
            subprocess.Popen(["sleep", "600"]) as process,
        ):
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            try:
                yield RunningServer(process, server.server_port, "half", log)
            finally:
                process.kill()
                server.shutdown()

    monkeypatch.setattr("components.package.imported.running_server", described)
    asked = Import(package, rows, named, PackagingConfig())
    with pytest.raises(DataError, match=f"row 1: signature '{expected}' .predict. does not answer"):
        import_model(asked, PipelineLayout(tmp_path / "artifacts", "half"))


def test_an_import_removes_what_one_that_was_killed_long_ago_has_left(
    package: Path, tmp_path: Path
) -> None:
    layout = PipelineLayout(tmp_path / "artifacts", "half")
    old, under_way = layout.versions / ".1.tmp-a", layout.versions / ".2.tmp-b"
    for folder in (old, under_way):
        (folder / "model").mkdir(parents=True)
    os.utime(old, (0, 0))
    with pytest.raises(DataError, match="corrupt"):
        imported(package, layout)
    assert not old.exists()
    assert under_way.is_dir()


def test_the_server_of_imported_models_serves_no_pipelines_model(package: Path) -> None:
    with pytest.raises(DataError, match="found the package of a pipeline's model; serve it with"):
        PackagedServer(Options(package, 0))
