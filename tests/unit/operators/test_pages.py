"""Airflow's plugin manager takes the pages from a file of its plugins folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER
from operators.pages import views

SHOW = """
import json
from airflow import plugins_manager
views, _ = plugins_manager._get_ui_plugins()
print(json.dumps([views, plugins_manager.get_import_errors()]))
"""


def seen_by_airflow(home: Path, url: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Return the views and import errors of an Airflow with the plugin."""
    plugins = home / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "slipway.py").write_text("from operators.pages import SlipwayPages\n")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(CODE_FOLDER),
        "SLIPWAY_LABELS_URL": url,
    }
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    found, errors = json.loads(done.stdout.splitlines()[-1])
    return found, errors


def test_airflow_shows_the_pages_in_a_frame(tmp_path: Path) -> None:
    found, errors = seen_by_airflow(tmp_path, "http://127.0.0.1:8800")
    assert errors == {}
    assert [(one["href"], one["destination"], one["url_route"]) for one in found] == [
        ("http://127.0.0.1:8800", "nav", "slipway-labels")
    ]


def test_without_an_address_the_menu_has_no_entry() -> None:
    assert views("") == []


@pytest.mark.parametrize("url", ["javascript:alert(1)", "127.0.0.1:8800", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SLIPWAY_LABELS_URL: expected the address"):
        views(url)
