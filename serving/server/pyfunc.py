"""A package as an MLflow model: `mlflow.pyfunc.load_model` calls `_load_pyfunc` by its name.

Rows go through the same reader, model and formatter as a request to the server does, so that both
answer alike. Source: https://mlflow.org/docs/latest/ml/model/python_model/#loader-module.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from contract.errors import UserError
from contract.model_io import DEFAULT_SIGNATURE
from serving.server.core import predictions
from serving.server.core.control_rows import control_for
from serving.server.core.model import load_model, read_package
from serving.server.core.unanswerable import Search
from serving.server.engines.engine import (
    Columns,
    NotFiniteError,
    Outputs,
    RefusedInputError,
    first_row_not_finite,
)
from serving.server.requests.errors import InvalidInputError
from serving.server.requests.instances import InputReader

if TYPE_CHECKING:
    import pandas as pd


class PackagedModel:
    """What `load_model(...).predict` calls."""

    def __init__(self, package: Path) -> None:
        self._manifest = read_package(package)
        self._model = load_model(package, self._manifest)
        self._reader = InputReader(self._manifest.inputs)
        self._control = control_for(package, self._manifest, self._model)

    def predict(
        self, model_input: "pd.DataFrame | Sequence[Any]", params: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return what the server answers as `predictions`: one entry a row.

        Raises:
            UserError: If the server would refuse the rows; the message is the server's.
        """
        del params  # none are declared
        rows = [_plain_row(row) for row in _rows(model_input)]
        size = self._manifest.serve.max_batch_size
        answers: list[Any] = []
        for start in range(0, len(rows), size):
            answers += self._answer(rows[start : start + size], start)
        return answers

    def _answer(self, rows: list[Any], start: int) -> list[Any]:
        try:
            columns = self._reader.read_rows(rows, f"rows from {start}")
        except InvalidInputError as refusal:
            raise UserError(str(refusal)) from refusal
        outputs = self._call(columns, start)
        return list(orjson.loads(predictions.predict_rows(outputs))["predictions"])

    def _call(self, columns: Columns, start: int) -> Outputs:
        error: Exception
        try:
            outputs = self._model.call(DEFAULT_SIGNATURE, columns)
            if (found := first_row_not_finite(outputs)) is None:
                return outputs
            row, name = found
            error = NotFiniteError(name, row)
        except Exception as failure:  # noqa: BLE001 (whatever an engine raises)
            error = failure
        error = Search(self._control).explained(DEFAULT_SIGNATURE, columns, error)
        if not isinstance(error, RefusedInputError):
            raise error
        raise UserError(_refusal(error, start)) from error


def _load_pyfunc(path: str) -> PackagedModel:
    """Load a package; `path` is the folder that MLflow stored, as it was given."""
    return PackagedModel(Path(path))


def _refusal(error: RefusedInputError, start: int) -> str:
    place = "" if error.row is None else f"row {start + error.row}"
    feature = "" if error.feature is None else f", '{error.feature}'"
    if isinstance(error, NotFiniteError):
        return f"{place}{feature}: {error}"
    return f"{place}{feature}: the model refuses the input: {error}".removeprefix(": ")


def _rows(model_input: Any) -> list[Any]:
    if hasattr(model_input, "to_dict"):
        return list(model_input.to_dict("records"))
    return list(model_input)


def _plain_row(row: Any) -> Any:
    """Return a row as JSON has it; what is missing in a table (NaN) is left out."""
    if not isinstance(row, Mapping):
        return _plain(row)
    plain = {str(name): _plain(value) for name, value in row.items()}
    return {name: value for name, value in plain.items() if not _is_missing(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
