"""MLflow behind a password: `python -m serving.tracking` has the options of `mlflow server`."""
