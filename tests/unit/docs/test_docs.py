"""The docs: what they name exists, and the reference has every key, command and call."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

import slipway
from cli.main import app
from contract.places import CODE_FOLDER
from contract.records.optimization import OptimizeRecord
from contract.records.package import PackageManifest
from contract.records.record import Result
from contract.records.stack import Stack
from contract.records.traffic import TrafficPlan
from contract.schema.pipeline import PipelineConfig

DOCS = CODE_FOLDER / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "reference" not in p.relative_to(DOCS).parts)
FOLDERS = "cli|components|configs|contract|dags|docs|launching|operators|serving|slipway|tests"
NAMED = re.compile(rf"`((?:{FOLDERS})/[A-Za-z0-9_./-]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    made = runpy.run_path(str(DOCS / "make_reference.py"))["pages"]()
    return {name: "\n".join(lines) for name, lines in made.items()}


def nav_pages(entries: Any) -> Iterator[str]:
    for entry in entries:
        value = next(iter(entry.values()))
        yield from [value] if isinstance(value, str) else nav_pages(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_files_and_links_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    if page.name == "where-is-it.md" or page.parent.name == "how-to":
        missing += [name for name in NAMED.findall(text) if not (CODE_FOLDER / name).exists()]
    assert missing == []


def test_where_is_it_answers_what_an_operator_asks_first() -> None:
    rows = (DOCS / "where-is-it.md").read_text(encoding="utf-8").splitlines()
    answers = {row.split("|")[1].strip(): NAMED.findall(row) for row in rows if "? |" in row}
    assert answers["Where does the judge decide to roll back?"] == [
        "components/deploy/judging/judge.py"
    ]
    assert answers["What happens when a chief or a worker dies?"][0] == "launching/restarts.py"
    assert len(answers) > 30
    assert [question for question, files in answers.items() if not files] == []


DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_why_what_by_which_figures_and_at_what_cost(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:4]}: ")
    assert re.findall(r"^## (.+)$", text, re.M) == [
        *("Context", "Decision", "Figures", "Consequences"),
    ]
    assert re.search(r"^Accepted\.$|^Replaced by \[\d{4}\]", text, re.M)
    missing = [name for name in NAMED.findall(text) if not (CODE_FOLDER / name).exists()]
    assert missing == []


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(page.name[:4]) for page in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 7


def test_every_page_is_in_the_navigation_once(reference: dict[str, str]) -> None:
    settings = yaml.safe_load((CODE_FOLDER / "mkdocs.yml").read_text(encoding="utf-8"))
    named = sorted(nav_pages(settings["nav"]))
    there = [page.relative_to(DOCS).as_posix() for page in PAGES]
    assert named == sorted([*there, *(f"reference/{name}.md" for name in reference)])


def test_the_reference_has_every_key_of_the_config(reference: dict[str, str]) -> None:
    schema = PipelineConfig.model_json_schema()
    parts = {"PipelineConfig": schema, **schema["$defs"]}
    for name, part in parts.items():
        if "properties" not in part:
            continue
        (section,) = re.findall(
            rf"^## {name}\n(.*?)(?=^## |\Z)", reference["pipeline"], re.M | re.S
        )
        keys = re.findall(r"^\| `([^`]+)` \|", section, re.M)
        assert keys == list(part["properties"])
    line = next(row for row in reference["pipeline"].splitlines() if row.startswith("| `retries`"))
    assert "integer ≥ 0, ≤ 10 | `2` |" in line
    assert "| `source` | [CsvSource](#csvsource) or [ParquetSource]" in reference["pipeline"]


def test_the_reference_has_every_record_with_its_fields(reference: dict[str, str]) -> None:
    for record in (Result, OptimizeRecord, PackageManifest, TrafficPlan, Stack):
        (section,) = re.findall(
            rf"^### {record.__name__}\n(.*?)(?=^##|\Z)", reference["records"], re.M | re.S
        )
        fields = re.findall(r"^\| `([^`]+)` \|", section, re.M)
        assert ["record_version", *fields] == list(record.model_fields)
        assert f"\nVersion {record.current_version}.\n" in section
    assert "| `heads` | object of [HeadConfig](pipeline.md#headconfig) |" in reference["records"]
    assert "| `engine` | [ServedEngine](#servedengine) |" in reference["records"]
    assert "| `created_at` | time | required | When it was packaged. |" in reference["records"]


def test_the_reference_has_every_command_and_option(reference: dict[str, str]) -> None:
    def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, one in command.commands.items():
                yield from commands(f"{path} {name}", one)
        else:
            yield path, command

    for path, command in commands("slipway", typer.main.get_command(app)):
        text = reference["commands"].partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        assert text, path
        options = {o: p for p in command.params for o in p.opts if o.startswith("-")}
        for option, parameter in options.items():  # hidden: an old name, kept for its users
            assert (f"`{option}`" in text) is not parameter.hidden, (path, option)
            assert parameter.hidden or parameter.help, (path, option)
    assert "[bold]" not in reference["commands"]
    assert "    $ slipway new churn --from customers.csv --label churned" in reference["commands"]


def test_the_reference_has_every_public_call(reference: dict[str, str]) -> None:
    for name in slipway.__all__:
        if not name.endswith("Error"):
            assert f"\n## {name}\n" in reference["python"]
    assert "### Run.deploy" in reference["python"]
    assert "new(name, frame, label)" in reference["python"]
