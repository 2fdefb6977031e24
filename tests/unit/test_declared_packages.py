"""Each package imports what the extras that install it bring, and no other."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from cli.extras import EXTRA_OF
from contract.places import CODE_FOLDER
from slipway.code_path import PACKAGES

PROJECT = tomllib.loads((CODE_FOLDER / "pyproject.toml").read_text(encoding="utf-8"))
OURS = {*PACKAGES, "slipway"}
ALLOWED = {  # beside the base; `local` has all of them
    "cli": {"local"},
    "components": {"components", "engines"},
    "contract": {"kubernetes"},  # of its client alone, as import-linter checks
    "dags": {"airflow"},
    "launching": {"airflow", "kubernetes"},
    "operators": {"airflow", "kubernetes"},
    "serving": {"serving", "engines", "kubernetes"},
    "slipway": {"local"},
}
OF_NAMESPACE = {"google": "protobuf"}  # many distributions have a part of it
OF_CALLERS = {  # MLflow's caller, a notebook's kernel, whoever writes or reads the prediction log
    ("serving", "pandas"),
    ("serving", "mlflow"),  # its own server, which runs where components do
    ("slipway", "IPython"),
    ("contract", "pyarrow"),
    ("contract", "numpy"),  # of whoever speaks gRPC
    ("contract", "google"),
}


# All that the contract may import of others, by its folder: whoever imports it pays for that.
OF_CONTRACT = {
    "": {"croniter", "fsspec", "pydantic", "pydantic_core", "yaml"},
    "clients": {"aiohttp", "httpx", "kubernetes_asyncio"},
    "prediction_log": {"pyarrow"},
    "wire": {"google", "numpy"},
}


def declared(extra: str) -> set[str]:
    """Return the distributions that an extra and the base bring, by their normal names."""
    lines = PROJECT["project"]["dependencies"] + (
        PROJECT["project"]["optional-dependencies"][extra] if extra else []
    )
    found = set()
    for line in lines:
        name = re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-")
        if name == "slipway":
            inner = line.partition("[")[2].rstrip("]").split(",")
            found |= {one for extra in inner for one in declared(extra)}
        found.add(name)
    return found


@cache
def imported(package: str) -> frozenset[tuple[str, Path]]:
    """Return the packages of others that ours imports, with the file."""
    found = set()
    for file in sorted((CODE_FOLDER / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            for top in {name.partition(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top not in OURS:
                    found.add((top, file))
    return frozenset(found)


@cache
def installed() -> Mapping[str, list[str]]:
    """Return the distributions of each installed package; reading them takes a second."""
    return metadata.packages_distributions()


def distributions(module: str) -> set[str]:
    """Return what brings a module; of several distributions each is enough."""
    if module in OF_NAMESPACE:
        return {OF_NAMESPACE[module]}
    found = installed().get(module, [])
    return {name.lower().replace("_", "-") for name in found} | {module.replace("_", "-")}


@pytest.mark.parametrize("package", sorted(OURS))
def test_what_a_package_imports_is_declared_where_it_is_installed(package: str) -> None:
    brought = declared("") | {one for extra in ALLOWED[package] for one in declared(extra)}
    undeclared = {
        f"{file.relative_to(CODE_FOLDER)}: {module}"
        for module, file in imported(package)
        if not distributions(module) & brought and (package, module) not in OF_CALLERS
    }
    assert undeclared == set()


def test_the_contract_imports_what_its_allow_list_names_and_nothing_more() -> None:
    found: dict[str, set[str]] = {}
    for module, file in imported("contract"):
        folder = file.relative_to(CODE_FOLDER / "contract").parts[0]
        found.setdefault(folder if folder in OF_CONTRACT else "", set()).add(module)
    shared = OF_CONTRACT[""]
    assert {f: names - shared if f else names for f, names in found.items()} == OF_CONTRACT


def test_every_import_beyond_the_base_has_an_extra_to_be_named_in_an_error() -> None:
    beyond = {
        module
        for package in OURS
        for module, _ in imported(package)
        if not distributions(module) & declared("") and (package, module) not in OF_CALLERS
    }
    assert beyond <= EXTRA_OF.keys()


@pytest.mark.parametrize(("module", "extra"), sorted(EXTRA_OF.items()))
def test_the_extra_that_an_error_names_brings_the_module(module: str, extra: str) -> None:
    assert distributions(module) & declared(extra)
    assert distributions(module) & declared("local")


def test_the_base_needs_neither_tensorflow_nor_airflow() -> None:
    assert not declared("") & {"tensorflow", "apache-airflow", "apache-beam", "mlflow", "numpy"}


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_is_in_the_wheel_typed_and_checked(package: str) -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert package in wheel["only-include"]
    assert (CODE_FOLDER / package / "py.typed").is_file()
    assert package in PROJECT["tool"]["mypy"]["files"]
    makefile = (CODE_FOLDER / "Makefile").read_text(encoding="utf-8")
    assert package in re.search(r"^PACKAGES := (.*)$", makefile, re.MULTILINE)[1].split()  # type: ignore[index]
    if package != "slipway":
        assert wheel["sources"][package] == f"slipway/_code/{package}"


def test_the_docs_list_every_extra_that_users_may_install() -> None:
    page = (CODE_FOLDER / "docs" / "install.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", page.partition("## Extras")[2], re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"].keys()
    assert listed == extras - {"dev", "peers"}
