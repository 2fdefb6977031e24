"""Columns of any name over the wire: rows, columns, metadata, refusals and the prediction log."""

from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from contract.prediction_log.reading import predictions_of, read_tables
from contract.records.package import InputSpec, PackageManifest
from contract.schema.serving import ServeConfig
from serving.server.engines.engine import Signature, TensorInfo

NAMES = (
    *("sepal length (cm)", "a.b", "a/b", "3rd", "größe/m²", "é", "e\u0301", "温度", "🌡", "class"),
    *("__proto__", "constructor", 'it\'s "so"', "x\\y", "%s {x} ${y}", "null", "true", "1e5", "-"),
    *("Age", "AGE", "instances", "inputs", "examples", "signature_name", "b64", "very " * 60),
)
ROW = {name: float(place + 1) for place, name in enumerate(NAMES)}
WEIGHTS = {name: 2.0**place for place, name in enumerate(NAMES)}  # one for another is seen


class Weighing:
    """An engine that adds its inputs, each with a weight of its own."""

    signatures = MappingProxyType(
        {
            "serving_default": Signature(
                {name: TensorInfo(name, "float32", (None,)) for name in NAMES},
                {"value": TensorInfo("value", "float32", (None,))},
            )
        }
    )

    def call(self, _signature: str, columns: Any) -> dict[str, Any]:
        return {"value": sum(columns[name].astype(np.float64) * WEIGHTS[name] for name in NAMES)}


@pytest.fixture
def stored(manifest, tmp_path) -> PackageManifest:
    """A manifest with odd names as a server reads it."""
    inputs = {name: InputSpec(dtype="float32") for name in NAMES}
    made = manifest(inputs=inputs, serve=ServeConfig(prediction_log_inputs_ratio=1.0))
    made.write(tmp_path / "package.json")
    return PackageManifest.read(tmp_path / "package.json")


@pytest.fixture
def odd(serve, stored):
    with serve(stored, Weighing()) as server:
        yield server


def test_rows_and_columns_of_any_name_are_answered(odd):
    expected = sum(ROW[name] * WEIGHTS[name] for name in NAMES)
    assert odd.predict({"instances": [ROW]})[2] == {"predictions": [expected]}
    columns = {name: [value] for name, value in reversed(ROW.items())}
    assert odd.predict({"inputs": columns})[2] == {"outputs": [expected]}
    regress = odd.send("POST", "/v1/models/doubling:regress", {"examples": [ROW]})
    assert regress[2] == {"results": [expected]}


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_value_is_named_as_the_caller_calls_it(odd, name):
    row = {other: value for other, value in ROW.items() if other != name}
    status, _, body = odd.predict({"instances": [row]})
    assert (status, body["error"]) == (
        400,
        f"instances[0].{name}: missing, without a default; expected a single float32",
    )


def test_metadata_has_the_callers_names(odd):
    found = odd.send("GET", "/v1/models/doubling/metadata")[2]["metadata"]["signature_def"]
    assert set(found["signature_def"]["serving_default"]["inputs"]) == set(NAMES)


def test_the_log_has_the_callers_names(serve, stored, tmp_path):
    with serve(stored, Weighing(), predictions=tmp_path / "log") as server:
        server.predict({"instances": [ROW]})
    (found,) = [one for table in read_tables(tmp_path / "log") for one in predictions_of(table)]
    assert found.inputs == ROW
