"""A package as an MLflow model: signature, input example, and the entry in the registry.

`mlflow.pyfunc.load_model("models:/NAME@champion")` loads it wherever Slipway is installed; the
loader is `serving.server.pyfunc`, named and not imported.
"""

import json
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.layout import PACKAGE_MANIFEST
from contract.programs import MODEL_LOADER
from contract.records.package import InputSpec, PackageManifest

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

VERSION_TAG = "slipway.version"
_REQUIREMENTS = ("tensorflow", "numpy", "orjson", "pydantic")
_EXAMPLE_ROWS = 3
# MLflow takes a float64 for no float32, and pandas has float64.
_TYPES = {"float32": "double", "int64": "long", "string": "string"}


def register_package(
    client: "MlflowClient", run_id: str, package: Path, where: str = ""
) -> "ModelVersion":
    """Upload a package as a logged model of a run, and register it as a new version.

    Args:
        where: Where the version answers requests, for its description; or empty.

    Raises:
        NotFoundError, DataError: If the package has no readable manifest.
    """
    manifest = PackageManifest.read(package / PACKAGE_MANIFEST)
    experiment = client.get_run(run_id).info.experiment_id
    tags = {VERSION_TAG: str(manifest.version), "slipway.package": str(package)}
    logged = client.create_logged_model(
        experiment,
        name=f"{manifest.pipeline}-{manifest.version}",
        source_run_id=run_id,
        tags=tags,
        params={"engine": manifest.engine.name, "digest": manifest.digest},
        model_type="slipway",
    )
    with tempfile.TemporaryDirectory() as folder:
        _save(package, manifest, Path(folder) / "model")
        client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
    client.finalize_logged_model(logged.model_id, "READY")
    for name, value in manifest.metrics.items():
        client.log_metric(run_id, name, value, model_id=logged.model_id, synchronous=True)
    return client.create_model_version(
        manifest.pipeline,
        f"models:/{logged.model_id}",
        run_id=run_id,
        tags={**tags, **{f"metric.{n}": f"{v:.6g}" for n, v in manifest.metrics.items()}},
        description=description_of(manifest, where),
        model_id=logged.model_id,
    )


def description_of(manifest: PackageManifest, where: str = "") -> str:
    """Return what a person reads about a version, in Markdown."""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in manifest.metrics.items())
    compared = manifest.compared_with_version
    commit = manifest.provenance.git_commit or "unknown"
    lines = [
        f"Version {manifest.version} of pipeline `{manifest.pipeline}`, made by run "
        f"`{manifest.provenance.run_id}`.",
        f"On the test split: {figures}." if figures else "",
        f"Blessed in comparison with version {compared}." if compared else "",
        f"Runs on {manifest.engine.name}; made from git commit {commit}.",
        f"In service it answers at {where}." if where else "",
    ]
    return "\n\n".join(filter(None, lines))


def signature_of(inputs: Mapping[str, InputSpec]) -> "ModelSignature":
    """Return the signature of a package's rows; an input with a default may be left out."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema, TensorSpec

    columns: list[ColSpec | TensorSpec] = []
    for name, spec in inputs.items():
        kind: Any = DataType[_TYPES[spec.dtype]]
        for _ in range(1 if spec.is_variable_length else len(spec.shape)):
            kind = Array(kind)
        may_be_missing = spec.is_variable_length or spec.default is not None
        columns.append(ColSpec(kind, name, required=not may_be_missing))
    return ModelSignature(inputs=Schema(columns))


def example_of(package: Path, manifest: PackageManifest) -> "pd.DataFrame | None":
    """Return some rows of a package as a table; None where it has no rows."""
    import pandas as pd

    if not manifest.examples:
        return None
    with (package / manifest.examples).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, _EXAMPLE_ROWS)]
    floats = {name for name, spec in manifest.inputs.items() if spec.dtype == "float32"}
    return pd.DataFrame(
        [{n: _floats(v) if n in floats else v for n, v in row.items()} for row in rows]
    )


def _floats(value: Any) -> Any:
    """Return whole numbers as floats, however deep: JSON does not tell them apart, MLflow does."""
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return value if value is None else float(value)


def _save(package: Path, manifest: PackageManifest, target: Path) -> None:
    from mlflow import pyfunc

    pyfunc.save_model(
        path=str(target),
        loader_module=MODEL_LOADER,
        data_path=str(package),
        signature=signature_of(manifest.inputs),
        input_example=example_of(package, manifest),
        pip_requirements=[f"{name}=={installed_version(name)}" for name in _REQUIREMENTS],
        metadata={"pipeline": manifest.pipeline, "version": manifest.version},
    )
