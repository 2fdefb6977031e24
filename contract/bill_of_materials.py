"""What is installed, as other tools read it: the bill of materials of a package or an image.

    python -m contract.bill_of_materials NAME [REVISION]     prints that of an image

Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json, and package URLs of type `pypi`.
"""

import json
import re
import sys
import uuid
from collections.abc import Mapping
from importlib import metadata
from typing import Any

Document = dict[str, Any]


def bill_of_materials(
    described: Document, unique: str, libraries: Mapping[str, str], timestamp: str = ""
) -> Document:
    """Return the libraries of something.

    Args:
        described: The component that has them, as CycloneDX has it.
        unique: A text that only this component has; equal texts give equal serial numbers.
        libraries: Versions by name.
        timestamp: When it was made, as ISO 8601 has it; left out if that is not known.
    """
    dated = {"timestamp": timestamp} if timestamp else {}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'slipway:{unique}')}",
        "version": 1,
        "metadata": {**dated, "component": described},
        "components": [
            {"type": "library", "name": one, "version": version, "purl": _purl(one, version)}
            for one, version in libraries.items()
        ],
    }


def installed_libraries() -> dict[str, str]:
    """Return the version of every installed library by its name, the pipeline's own, too."""
    found = {one.name: one.version for one in metadata.distributions() if one.name}
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def image_bill(name: str, revision: str) -> Document:
    """Return the bill of an image, of the environment that asks; a commit may be its version."""
    described: Document = {"type": "container", "bom-ref": "image", "name": name}
    version = {"version": revision} if revision else {}
    unique = f"image:{name}/{revision}"
    return bill_of_materials(described | version, unique, installed_libraries())


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version.replace('+', '%2B')}"


if __name__ == "__main__":
    found = image_bill(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
