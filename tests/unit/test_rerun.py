"""Only what is named with a reason is run again, and only if it is all that failed."""

import json
from pathlib import Path

import pytest
from rerun import LIST, main, named

SUITE = """
import pathlib

def test_passes_the_second_time():
    tried = pathlib.Path(__file__).with_name("tried")
    was_there = tried.exists()
    tried.touch()
    assert was_there

def test_never_passes(): assert False
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "tried").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rerun(suite: Path, failed: list[str], may_fail: list[str]) -> int:
    cache = suite / "cache"
    record = cache / "v" / "cache" / "lastfailed"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({f"test_suite.py::{test}": True for test in failed}))
    (suite / "may_fail.txt").write_text(
        "\n".join(f"test_suite.py::{test}  # a reason" for test in may_fail)
    )
    return main(cache, suite / "may_fail.txt")


SECOND, NEVER = "test_passes_the_second_time", "test_never_passes"


def test_a_named_test_that_passes_now_is_well(suite: Path) -> None:
    assert rerun(suite, [SECOND], [SECOND, NEVER]) == 0


def test_a_named_test_that_fails_again_fails(suite: Path) -> None:
    assert rerun(suite, [SECOND, NEVER], [SECOND, NEVER]) == 1


def test_a_test_that_is_not_named_fails_and_is_shown(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rerun(suite, [SECOND, NEVER], [NEVER]) == 1
    said = capsys.readouterr().out
    assert f"may_fail.txt does not name them:\n  test_suite.py::{SECOND}" in said
    assert "Once more" not in said


def test_a_failure_that_left_no_failed_test_fails(suite: Path) -> None:
    assert rerun(suite, [], [SECOND]) == 1


def test_the_list_has_a_reason_for_each_test() -> None:
    assert named("# words\n\na.py::test[x#1]  # slow disk\n") == {"a.py::test[x#1]": "slow disk"}
    with pytest.raises(ValueError, match="'a.py::test': expected 'TEST  # REASON'"):
        named("a.py::test\n")


def test_our_list_names_tests_that_are_there() -> None:
    for test in named(LIST.read_text()):
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (LIST.parents[1] / file).read_text(), test
