"""Folders of other engines that cannot be opened are refused in words."""

from pathlib import Path

import pytest

from contract.errors import DataError, NotFoundError
from contract.records.optimization import EngineFiles
from serving.server.engines.cores import indexes
from serving.server.engines.opening import open_model


def write(folder: Path, engine: str, content: bytes | None) -> Path:
    EngineFiles(
        engine=engine, precision="fp32", core="core", core_inputs=(), core_outputs=(),
        inputs=(), outputs=(),
    ).write(folder / "engine.json")  # fmt: skip
    if content is not None:
        (folder / "core").write_bytes(content)
    return folder


def test_a_folder_without_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"engine\.json: no EngineFiles there"):
        open_model(tmp_path, tmp_path, {}, 1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="core: the engine's file is missing; package the run"):
        open_model(tmp_path, write(tmp_path, "litert", None), {}, 1)


@pytest.mark.parametrize("engine", ["openvino", "litert"])
def test_a_broken_file_is_refused(tmp_path: Path, engine: str) -> None:
    with pytest.raises(DataError, match=f"core: {engine} cannot load it"):
        open_model(tmp_path, write(tmp_path, engine, b"nothing of the kind"), {}, 1)


def test_a_file_with_other_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has the tensors \['y'\], expected also \['x'\]"):
        indexes({"y": 0}, ("x",))
