"""What GitHub reads of this repository."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    (found,) = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"].values()
    return dict(found)


def test_the_workflow_runs_what_ci_runs_everywhere(job: dict[str, Any]) -> None:
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_workflow_has_the_python_of_the_project(job: dict[str, Any]) -> None:
    (python,) = (s["with"] for s in job["steps"] if "setup-python" in s.get("uses", ""))
    project = (ROOT / "pyproject.toml").read_text()
    assert f'requires-python = ">={python["python-version"]},' in project


def test_the_workflow_can_compare_with_main(job: dict[str, Any]) -> None:
    (checkout,) = (s["with"] for s in job["steps"] if "checkout" in s.get("uses", ""))
    assert checkout["fetch-depth"] == 0


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_a_form_for_issues_has_the_fields_that_github_asks_for(form: str) -> None:
    document = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
    assert document.keys() >= {"name", "description", "body"}
    for field in document["body"]:
        assert field["type"] in ("input", "textarea", "dropdown", "checkboxes", "markdown")
        assert field["attributes"]["label"]


def test_the_changelog_has_a_dated_section_for_every_release() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    assert heads[0] == "Next"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", head) for head in heads[1:])
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None and heads[1].startswith(f"{version[1]} ")
    assert "### Upgrading from " in changelog.partition(f"## {heads[1]}")[0]
