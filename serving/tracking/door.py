"""MLflow's application behind a door: a password, and artifacts in its own store only.

MLflow without authentication reads and writes any file of its owner for everybody who reaches its
port: an experiment's `artifact_location` may be any folder, and a run's files may be links.
"""

import os
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.server.fastapi_app import app as mlflow_app
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from contract.tokens import read_token
from serving.tracking.first_page import FirstPage
from serving.tracking.password import PASSWORD_FILE, PasswordDoor

STORES = "mlflow-artifacts:"


def own_artifacts_only(store: type[SqlAlchemyStore]) -> None:
    """Let experiments have artifacts in the server's own store only."""
    create = store.create_experiment

    def create_experiment(
        self: SqlAlchemyStore, name: str, artifact_location: str | None = None, tags: Any = None
    ) -> Any:
        if artifact_location and not artifact_location.startswith(STORES):
            raise MlflowException.invalid_parameter_value(
                f"artifact_location: expected none, or a '{STORES}' URI, found "
                f"'{artifact_location}': artifacts are kept by this server only"
            )
        return create(self, name, artifact_location, tags)

    store.create_experiment = create_experiment  # type: ignore[method-assign]


own_artifacts_only(SqlAlchemyStore)
_password = read_token(Path(os.environ[PASSWORD_FILE]), PASSWORD_FILE)
app = PasswordDoor(FirstPage(mlflow_app), _password)
