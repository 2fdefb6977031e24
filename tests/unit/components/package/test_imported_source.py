import os
from pathlib import Path

import pytest

from components.package.imported_source import find_source
from contract.errors import DataError, NotFoundError


def made(path: Path, *files: str) -> Path:
    for name in files:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize(
    ("files", "asked", "kind", "at"),
    [
        (["saved_model.pb", "variables/variables.index"], ".", "saved_model", "."),
        (["saved_model.pbtxt"], ".", "saved_model", "."),
        (["saved_model.pb", "model.tflite"], ".", "saved_model", "."),
        (["small.tflite"], ".", "litert", "small.tflite"),
        (["small.tflite"], "small.tflite", "litert", "small.tflite"),
        (["package.json", "model/saved_model.pb"], ".", "package", "."),
    ],
)
def test_a_model_is_known_by_its_files(
    tmp_path: Path, files: list[str], asked: str, kind: str, at: str
) -> None:
    found = find_source(made(tmp_path / "m", *files) / asked)
    assert (found.format, found.path) == (kind, tmp_path / "m" / at)


@pytest.mark.parametrize(
    ("files", "asked", "said"),
    [
        ([], ".", "m: found an empty folder; expected a folder with saved_model.pb"),
        (["export.meta", "checkpoint"], ".", "found checkpoint, export.meta; expected a folder"),
        (["1/saved_model.pb", "12/saved_model.pb"], ".",
         "found the folders of 2 versions, name one of them, such as .*/m/12;"),
        (["a.tflite", "b.tflite"], ".", r"several LiteRT files \(a.tflite, b.tflite\), name one"),
        (["m.keras"], "m.keras", r"a Keras file, .*load_model\('m.keras'\).export\('DIR'\)"),
        (["notes.txt"], "notes.txt", "notes.txt: found a file; expected a folder with"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_with_what_it_is(
    tmp_path: Path, files: list[str], asked: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        find_source(made(tmp_path / "m", *files) / asked)


def test_a_pipe_is_no_model_whatever_its_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.tflite")
    with pytest.raises(DataError, match=r"m\.tflite: found neither a file nor a folder; expected"):
        find_source(tmp_path / "m.tflite")


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere: not found; expected a folder with"):
        find_source(tmp_path / "nowhere")


def test_a_litert_file_is_copied_under_the_name_that_servers_know(tmp_path: Path) -> None:
    file = made(tmp_path / "m", "small.tflite") / "small.tflite"
    find_source(file).copy(tmp_path / "copy")
    assert [one.name for one in (tmp_path / "copy").iterdir()] == ["model.tflite"]
