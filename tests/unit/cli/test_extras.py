"""What a command says where the extra that it needs is not installed."""

import pytest

from cli import extras
from contract.errors import UserError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has the base install alone."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)


def test_where_everything_is_installed_no_extra_is_asked_for() -> None:
    extras.require("components", "serving", "airflow")
    assert extras.absence("components") is None


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("extra", "module"),
    [("components", "tensorflow"), ("serving", "orjson"), ("airflow", "airflow")],
)
def test_a_missing_extra_is_refused_with_the_command_that_installs_it(
    extra: str, module: str
) -> None:
    absent = rf"needs the extra '{extra}' \(not installed: '{module}'\)"
    with pytest.raises(UserError, match=rf"{absent}: pip install 'slipway\[{extra}\]'"):
        extras.require(extra)


@pytest.mark.usefixtures("bare")
def test_all_missing_extras_are_named_at_once() -> None:
    with pytest.raises(UserError, match=r"the extras 'serving', 'airflow' .*\[serving,airflow\]'"):
        extras.require("serving", "airflow")


@pytest.mark.usefixtures("bare")
def test_a_failed_import_is_explained_by_the_extra_that_has_the_package() -> None:
    missing = ModuleNotFoundError("No module named 'openvino.runtime'", name="openvino.runtime")
    explained = extras.explained(missing)
    assert explained is not None and "pip install 'slipway[engines]'" in str(explained)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("name", ["cli.runs.progress", "unheard_of", None])
def test_an_import_that_no_extra_has_stays_an_error_of_the_code(name: str | None) -> None:
    assert extras.explained(ModuleNotFoundError("No module", name=name)) is None


def test_a_missing_module_of_an_installed_package_is_not_explained_by_an_extra() -> None:
    missing = ModuleNotFoundError("No module named 'numpy.nothing'", name="numpy.nothing")
    assert extras.explained(missing) is None
