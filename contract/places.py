"""Where Slipway's own files lie, and where its user's: in a checkout, and installed from a wheel.

A checkout holds both. A wheel installs our packages and what they ship in one folder of
site-packages, `slipway/_code` (see `pyproject.toml`); the user's files then lie in the workspace.
"""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

# The folder that holds our packages and `configs/`: the checkout, or `slipway/_code` of a wheel.
CODE_FOLDER = Path(str(resources.files("contract"))).resolve().parent
IS_INSTALLED = CODE_FOLDER.parts[-2:] == ("slipway", "_code")


def workspace(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the user's `configs/` and `.slipway`.

    It is the checkout. Where Slipway is installed from a wheel it is SLIPWAY_WORKSPACE, which
    `import slipway` and the `slipway` command set to the current folder unless it is set.
    """
    if not IS_INSTALLED:
        return CODE_FOLDER
    return Path(environment.get("SLIPWAY_WORKSPACE") or Path.cwd()).resolve()


def config_folders(kind: str, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return where configs of a kind (`pipelines`, `runtimes`) lie: the shipped ones come first."""
    tops = dict.fromkeys((CODE_FOLDER, workspace(environment)))
    return [top / "configs" / kind for top in tops]
