"""The notebook of the docs, in a real kernel, with services up: from a CSV file to a canary."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from contract.places import CODE_FOLDER

pytestmark = [pytest.mark.long, pytest.mark.thorough]  # the tutorial covers the same

NOTEBOOK = CODE_FOLDER / "docs" / "notebooks" / "from_csv_to_canary.ipynb"

# What the notebook has come to, and the same question asked by hand.
LOOK = """
import json, urllib.request

shuffled = customers.sample(frac=1.0, random_state=1)  # 2,000 rows: four requests
all_answers = p.predict(shuffled)
holes = customers[customers["minutes_last_month"].isna()].head(1)
row = {k: v for k, v in holes.iloc[0].items() if k not in ("customer_id", "churned")}
row.pop("minutes_last_month")
row = {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
request = urllib.request.Request(
    f"{sw.services.data_plane_url}/v1/models/churn:predict",
    json.dumps({"instances": [row]}).encode(),
    {"content-type": "application/json"},
)
by_hand = json.load(urllib.request.urlopen(request))["predictions"][0]
print(json.dumps({
    "outcomes": [run.outcome, second.outcome],
    "version": [version.number, version.outcome, version.url],
    "champion": second.metrics["champion"].notna().all().item(),
    "again": second.deploy().number,
    "runs": [one.run_id for one in p.runs()] == [second.run_id, run.run_id],
    "index": (all_answers.index == shuffled.index).all().item(),
    "accuracy": (all_answers["churned"] == shuffled["churned"]).mean(),
    "mixed": ((all_answers["churned:yes"] > 0.5) == (all_answers["churned"] == "yes")).all().item(),
    "by_hand": by_hand,
    "by_frame": p.predict(holes)[["churned:no", "churned:yes"]].iloc[0].tolist(),
    "first": version.__class__("churn", 1, "").predict(holes).attrs["versions"],
    "requests": seen[0].requests,
    "errors": seen[0].errors,
}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("notebook")
    ours = {"SLIPWAY_HOME": "home", "SLIPWAY_PIPELINES": "pipelines"}
    environment = {**os.environ, **{name: str(folder / place) for name, place in ours.items()}}
    environment["PYTHONPATH"] = str(CODE_FOLDER)
    slipway = [sys.executable, "-m", "cli.main"]
    subprocess.run(
        [*slipway, "up", "--without-airflow"], env=environment, cwd=CODE_FOLDER, check=True
    )
    yield environment
    subprocess.run([*slipway, "down"], env=environment, cwd=CODE_FOLDER, check=True)


def test_the_notebook_takes_a_csv_to_a_canary(environment: dict[str, str]) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear its outputs"
    shown = executed(notebook, environment)
    found = json.loads("".join(output.get("text", "") for output in shown[-1]))
    assert found.pop("accuracy") > 0.85  # 0.81 are "no"
    assert found.pop("by_frame") == pytest.approx(found.pop("by_hand"), abs=1e-6)
    assert found.pop("requests") > 100
    url = found["version"].pop()
    assert url.endswith("/v1/models/churn/versions/2:predict")
    assert found == {
        "outcomes": ["promoted", "promoted"],
        "version": [2, "promoted"],
        "champion": True,
        "again": 2,
        "runs": True,
        "index": True,
        "mixed": True,
        "first": [1],
        "errors": 0,
    }
    bars = [bundle for cell in shown for bundle in displayed(cell) if "canary" in bundle]
    assert len(bars) == 2  # the two deployments: their last state is what the notebook keeps
    assert all(bundle.count("✓") == 10 for bundle in bars)


def executed(notebook: Any, environment: dict[str, str]) -> list[list[Any]]:
    """Run all cells and one of ours after them; return the outputs of the code cells."""
    notebook.cells.append(nbformat.v4.new_code_cell(LOOK))
    resources = {"metadata": {"path": str(Path(NOTEBOOK).parent)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources)
    client.execute(env=environment)
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def displayed(outputs: list[Any]) -> list[str]:
    """Return what a cell drew in place."""
    drawn = [output for output in outputs if output.output_type == "display_data"]
    return [output.data["text/plain"] for output in drawn if "text/html" in output.data]
