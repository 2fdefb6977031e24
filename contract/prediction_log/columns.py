"""The columns of the prediction log, one row of a request each.

| column | type | |
|---|---|---|
| `time`, `request_id`, `row`, `version`, `arm`, `signature`, `status`, `latency_seconds` | | as in the record `Prediction` |
| `predicted:<head>` | int32 or float64 | the class's index, or the value of a regression |
| `confidence:<head>` | float32 | the predicted class's score; heads with classes |
| `scores:<head>` | list of float32 | all scores; heads with classes |
| `input:<name>` | as the input, text as binary | null but for sampled requests |
| `example` | binary | the serialised tf.Example; null but for sampled requests that sent one |

The last two are there only if the server samples inputs. A refused request has one row with its
status and no outputs.
"""  # noqa: E501 (a table)

from collections.abc import Mapping

import pyarrow as pa

from contract.records.package import InputSpec
from contract.schema.data import HeadConfig

PREDICTED, CONFIDENCE, SCORES, INPUT = "predicted:", "confidence:", "scores:", "input:"
EXAMPLE = "example"

_FORMAT = {b"slipway.prediction_log": b"1"}  # rises when readers have to know of a change

FIXED = pa.schema(
    [
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("signature", pa.string(), nullable=False),
        pa.field("status", pa.int16(), nullable=False),
        pa.field("latency_seconds", pa.float32(), nullable=False),
    ]
)
_INPUT_TYPES = {"float32": pa.float32(), "int64": pa.int64(), "string": pa.binary()}


def log_schema(
    heads: Mapping[str, HeadConfig], inputs: Mapping[str, InputSpec] | None = None
) -> pa.Schema:
    """Return the columns of a version's log; without `inputs` none are sampled."""
    fields = list(FIXED)
    for head, config in heads.items():
        is_number = config.task == "regression"
        fields.append(pa.field(PREDICTED + head, pa.float64() if is_number else pa.int32()))
        if not is_number:
            fields.append(pa.field(CONFIDENCE + head, pa.float32()))
            fields.append(pa.field(SCORES + head, _lists_of(pa.float32())))
    if inputs is not None:
        fields += [pa.field(INPUT + name, input_type(spec)) for name, spec in inputs.items()]
        fields.append(pa.field(EXAMPLE, pa.binary()))
    return pa.schema(fields, _FORMAT)


def input_type(spec: InputSpec) -> pa.DataType:
    """Return an input's type: a value, or lists of them, as deep as its shape."""
    found = _INPUT_TYPES[spec.dtype]
    for _ in range(1 if spec.is_variable_length else len(spec.shape)):
        found = _lists_of(found)
    return found


def _lists_of(found: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", found))  # as Parquet calls it
