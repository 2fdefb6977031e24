import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.package.imported_rows import (
    Rows,
    check_answers,
    check_skew,
    is_near,
    offline_answers,
    rows_for,
)
from components.package.server_process import RunningServer
from contract.errors import DataError
from contract.records.package import SignatureSpec

PREDICT = SignatureSpec(method="predict", inputs={}, outputs={})
CLASSIFY = SignatureSpec(method="classify", inputs={}, outputs={})


@pytest.mark.parametrize(
    ("signatures", "wanted", "name", "key"),
    [
        ({"serving_default": PREDICT, "other": CLASSIFY}, "", "serving_default", "instances"),
        ({"serving_default": PREDICT, "other": CLASSIFY}, "other", "other", "examples"),
        ({"only": CLASSIFY}, "", "only", "examples"),
    ],
)
def test_rows_go_to_the_signature_that_is_meant(
    signatures: dict[str, SignatureSpec], wanted: str, name: str, key: str
) -> None:
    found = rows_for(signatures, [1.0], wanted, "--from m")
    assert (found.signature, found.key) == (name, key)


def test_a_signature_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="--signature otherone: not found in --from m.*'only'"):
        rows_for({"only": PREDICT}, [1.0], "otherone", "--from m")


def test_rows_for_one_of_several_signatures_need_its_name() -> None:
    with pytest.raises(DataError, match="name one of 'a', 'b' with --signature"):
        rows_for({"a": PREDICT, "b": PREDICT}, [1.0], "", "--from m")


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        (1.0, 1.000009, True),
        (1.0, 1.00002, False),
        (1000.0, 1000.009, True),
        (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True),
        (float("inf"), 1.0, False),
        (1.0, float("inf"), False),
        (float("-inf"), float("inf"), False),
        (1.0, float("nan"), False),
        (9007199254740992, 9007199254740993, False),
        (1000000, 1000000.5, True),
        ([1, [2.0]], [1, [2.0]], True),
        ([1], [1, 2], False),
        ({"a": "x"}, {"a": "x"}, True),
        ({"a": "x"}, {"b": "x"}, False),
        (True, 1, True),
        ("a", "b", False),
    ],
)
def test_answers_are_compared_value_by_value(found: Any, wanted: Any, same: bool) -> None:
    assert is_near(found, wanted, 1e-5) is same


def test_signatures_for_examples_are_not_compared_with_the_second_loader() -> None:
    words = offline_answers(Path("m"), Rows("c", "classify", [{"x": 1}]))
    assert words == "'c' is a signature for classify"


def test_a_server_that_answers_otherwise_than_tensorflow_is_refused() -> None:
    check_skew([1.0, 2.0], [1.0, 2.000001], 1e-5)
    with pytest.raises(DataError, match="row 2: the server answers 2.1, TensorFlow outside .* 2.0"):
        check_skew([1.0, 2.1], [1.0, 2.0], 1e-5)


def test_a_row_at_which_the_server_dies_is_named_with_the_servers_last_words(
    tmp_path: Path,
) -> None:
    """A stand-in for the process, which has ended."""
    log = tmp_path / "server.log"
    log.write_text("listening\nCheck failed: dims\n")
    process = subprocess.Popen(["true"])
    process.wait()
    with socket.socket() as silent:  # its port is taken, and nobody listens
        silent.bind(("127.0.0.1", 0))
        server = RunningServer(process, silent.getsockname()[1], "half", log)
        with pytest.raises(DataError, match="row 1: signature 'c' .*no answer.*refused.*Check fai"):
            check_answers(server, Rows("c", "predict", [1.0]), 1e-5)
