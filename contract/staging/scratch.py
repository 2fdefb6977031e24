"""Which folder of this machine stands for a root in an object store, and back."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from contract.storage import ORIGIN, write_atomically

SCRATCH = "SLIPWAY_SCRATCH"  # the folder of all scratch folders; else it is in the state folder


def is_object_root(root: str) -> bool:
    """Tell whether a root is in an object store: it has a scheme, and not that of files."""
    return "://" in root and not root.startswith(("file://", "local://"))


def scratch_of(uri: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the scratch folder of a root in an object store; it is made where it is not there."""
    from contract.loader import state_folder

    uri = uri.rstrip("/")
    home = environment.get(SCRATCH) or state_folder(environment) / "scratch"
    folder = Path(home).absolute() / hashlib.sha256(uri.encode()).hexdigest()[:16]
    if not (folder / ORIGIN).is_file():
        write_atomically(folder / ORIGIN, uri)
    return folder
