"""Start `mlflow server` with `serving.tracking.door` as its application.

    SLIPWAY_TRACKING_PASSWORD_FILE=password python -m serving.tracking --port 5000 ...

MLflow itself finds applications by the entry points of installed packages. Images hold our code
uninstalled, so two functions of `mlflow.server` are replaced here (MLflow 3.17; a test starts it).
"""

import os
import sys
from typing import Any

from mlflow import cli, server

from serving.tracking.password import set_database_password

APPLICATION = "serving.tracking.door:app"


def main() -> None:
    """Run MLflow's own command."""
    run_server = server._run_server

    def run_ours(**settings: Any) -> None:
        run_server(**{**settings, "app_name": "slipway"})

    set_database_password(os.environ)
    server._run_server = run_ours
    server._find_app = lambda app_name: APPLICATION  # noqa: ARG005  # MLflow's own name
    cli.cli(["server", *sys.argv[1:]], prog_name="mlflow")


if __name__ == "__main__":
    main()
