"""Users' modules: found, checked, and blamed with file and line when they raise."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from components.models.user_code import (
    blamed_on_user,
    function_of,
    load_module,
    optional_function,
    user_code,
)
from contract.errors import SlipwayError, UserCodeError


def write(folder: Path, text: str) -> Path:
    folder = folder / "pipeline"
    folder.mkdir()
    (folder / "model.py").write_text(text)
    return folder


def test_a_function_is_found_and_called(tmp_path: Path) -> None:
    module = load_module(write(tmp_path, "def build_model(a, b): return a + b\n"), "model.py")

    assert function_of(module, "build_model", ("a", "b"))(1, 2) == 3


def test_a_misspelt_function_is_told_the_nearest(tmp_path: Path) -> None:
    module = load_module(write(tmp_path, "def biuld_model(a): return a\n"), "model.py")

    with pytest.raises(UserCodeError, match="found none; did you mean 'biuld_model'"):
        function_of(module, "build_model", ("a",))


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    module = load_module(write(tmp_path, "def loss(labels): return 0\n"), "model.py")

    with pytest.raises(UserCodeError, match=r"loss\(labels\): expected loss\(labels, outputs\)"):
        optional_function(module, "loss", ("labels", "outputs"))
    assert optional_function(module, "metrics", ()) is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="model.py: no such file"):
        load_module(tmp_path, "model.py")


def test_a_module_that_raises_is_blamed_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="import: ZeroDivisionError at model.py:2"):
        load_module(write(tmp_path, "x = 1\ny = 1 / 0\n"), "model.py")


def test_a_file_that_is_no_python_is_blamed_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import keras\n\nsize = )\n")
    with pytest.raises(UserCodeError, match=r"import: SyntaxError at model.py:3: unmatched '\)'"):
        load_module(tmp_path, "model.py")


def test_a_function_that_raises_is_blamed_with_its_line(tmp_path: Path) -> None:
    module = load_module(write(tmp_path, "def loss():\n    return {}['a']\n"), "model.py")

    with (
        pytest.raises(UserCodeError, match="loss: KeyError at model.py:2: 'a'"),
        user_code("loss"),
    ):
        module.loss()


def test_a_module_that_ends_the_process_is_blamed_with_its_line(tmp_path: Path) -> None:
    text = "import sys\n\ndef loss():\n    sys.exit(0)\n"
    module = load_module(write(tmp_path, text), "model.py")
    with (
        pytest.raises(UserCodeError, match="loss: SystemExit at model.py:4: 0"),
        user_code("loss"),
    ):
        module.loss()


def test_what_a_library_refuses_has_no_line_of_the_user() -> None:
    with (
        pytest.raises(UserCodeError, match=r"^loss: JSONDecodeError: Expecting value"),
        user_code("loss"),
    ):
        json.loads("")


@pytest.mark.parametrize(
    "body",
    [
        "raise ConnectionResetError(104, 'Connection reset by peer')",
        "raise TimeoutError('timed out')",
        "raise MemoryError('no room')",
        "raise OSError(5, 'Input/output error')",
        "import socket\n    raise socket.gaierror(-3, 'Temporary failure in name resolution')",
        "import urllib.request\n    urllib.request.urlopen('http://127.0.0.1:9/', timeout=5)",
    ],
)
def test_what_a_retry_may_cure_has_exit_code_1_with_its_place(tmp_path: Path, body: str) -> None:
    fetch = function_of(
        load_module(write(tmp_path, f"def fetch():\n    {body}\n"), "model.py"), "fetch", ()
    )
    with (
        pytest.raises(SlipwayError, match=r"^model.py: build_model: .* at .*:\d+: ") as caught,
        user_code("model.py: build_model"),
    ):
        fetch()
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "body",
    [
        "open('/no/such/file')",
        "open('/')",
        "raise OSError('unable to open file: bad signature')",
        "raise OSError(28, 'No space left on device')",
    ],
)
def test_a_file_that_is_not_what_the_code_expects_has_exit_code_2(
    tmp_path: Path, body: str
) -> None:
    fetch = function_of(
        load_module(write(tmp_path, f"def fetch():\n    {body}\n"), "model.py"), "fetch", ()
    )
    with pytest.raises(UserCodeError, match=r"at model.py:2: ") as caught, user_code("fetch"):
        fetch()
    assert caught.value.exit_code == 2


def raised_by(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def test_an_error_is_the_users_where_their_file_is_in_its_traceback(tmp_path: Path) -> None:
    folder = write(tmp_path, "from own import deep\n\ndef loss():\n    return deep()\n")
    (folder / "own.py").write_text("def deep():\n    return [][3]\n")
    loss = function_of(load_module(folder, "model.py"), "loss", ())
    blame = blamed_on_user("train: the model, after step 4", raised_by(loss))
    assert str(blame) == (
        "train: the model, after step 4: IndexError at own.py:2: list index out of range"
    )


def test_an_error_of_our_own_is_not_the_users() -> None:
    assert blamed_on_user("train", raised_by(lambda: [][3])) is None


def test_an_edit_of_equal_size_within_a_second_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    for units in (8, 9):
        file.write_text(f"UNITS = {units}\n", encoding="utf-8")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        assert units == load_module(tmp_path, "model.py").UNITS
