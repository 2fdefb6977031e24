"""An MLflow store of a test: a database and a place for artifacts, both in the test's folder."""

from pathlib import Path

from mlflow import MlflowClient


def experiment_in(folder: Path, name: str) -> str:
    """Make an experiment and return the tracking URI.

    MLflow puts the artifacts of one that it makes by itself into `mlruns` in the current folder.
    """
    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(uri).create_experiment(name, artifact_location=str(folder / "artifacts"))
    return uri
