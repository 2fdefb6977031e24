"""The bill of materials of an image, as its Dockerfile asks for it."""

import json
import subprocess
import sys
from importlib import metadata

from contract.bill_of_materials import installed_libraries


def test_what_is_installed_is_known() -> None:
    found = installed_libraries()
    assert found["tensorflow"] == metadata.version("tensorflow")
    assert len(found) > 100


def test_an_image_has_the_libraries_of_the_environment_that_asks() -> None:
    command = [sys.executable, "-m", "contract.bill_of_materials", "slipway-serving", "0123"]
    bill = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert bill["metadata"] == {
        "component": {
            "type": "container",
            "bom-ref": "image",
            "name": "slipway-serving",
            "version": "0123",
        }
    }
    versions = {one["name"]: one["version"] for one in bill["components"]}
    assert versions == installed_libraries()
