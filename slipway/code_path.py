"""Where our packages are imported from: `slipway/_code` of a wheel, or the checkout.

`cli`, `components` and the others are top-level packages, and other projects use these names, too.
A wheel therefore installs them in a separate folder. Importing this module, which `import slipway`
does first, puts that folder first on `sys.path`.
"""

import os
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_INSTALLED = _HERE / "_code"
CODE_FOLDER = _INSTALLED if _INSTALLED.is_dir() else _HERE.parent
PACKAGES = ("cli", "components", "contract", "dags", "launching", "operators", "serving")


def _prepare() -> None:
    """Let our packages be found first, and fix the workspace for this process and its children.

    Raises:
        ImportError: If a package of another project has the name of one of ours and is imported.
    """
    _refuse_namesakes()
    folder = str(CODE_FOLDER)
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]
    if CODE_FOLDER == _INSTALLED:
        os.environ.setdefault("SLIPWAY_WORKSPACE", str(Path.cwd()))


def _refuse_namesakes() -> None:
    for name in (name for name in PACKAGES if name in sys.modules):
        module = sys.modules[name]
        origin = module.__file__ or next(iter(module.__path__))  # a folder without __init__.py
        if CODE_FOLDER not in Path(origin).resolve().parents:
            raise ImportError(
                f"Slipway has a package '{name}', and {origin} of the same name is imported "
                "already; rename that module, or import slipway in another process"
            )


_prepare()
