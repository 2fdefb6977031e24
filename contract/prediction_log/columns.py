"""The columns of the prediction log, one row of a request each.

| column | type | |
|---|---|---|
| `time`, `request_id`, `row`, `version`, `arm`, `signature`, `status`, `latency_seconds` | | as in the record `Prediction` |
| `predicted:<head>` | int32 or float64 | the class's index, or the value of a regression |
| `confidence:<head>` | float32 | the predicted class's score; heads with classes |
| `scores:<head>` | list of float32 | all scores; heads with classes |
| `output:<name>` | list of the output's type | all values of the row; models from elsewhere |
| `input:<name>` | as the input, text as binary; lists as deep as its rows | null but for sampled requests |
| `example` | binary | the serialised tf.Example; null but for sampled requests that sent one |

The last two columns are there only if the server samples inputs. A refused request has one row with its
status and no outputs.
"""  # noqa: E501 (a table)

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa

from contract.records.package import InputSpec, SignatureSpec, TensorSpec
from contract.schema.data import HeadConfig

PREDICTED, CONFIDENCE, SCORES, INPUT = "predicted:", "confidence:", "scores:", "input:"
OUTPUT = "output:"
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
_VALUE_TYPES = {
    **dict.fromkeys(("float16", "bfloat16", "float32"), pa.float32()),
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"), pa.int64()),
    **{"float64": pa.float64(), "uint64": pa.uint64(), "bool": pa.bool_(), "string": pa.binary()},
}
_INPUT_TYPES = {"float32": pa.float32(), "int64": pa.int64(), "string": pa.binary()}


def log_schema(
    heads: Mapping[str, HeadConfig],
    inputs: Mapping[str, InputSpec] | None = None,
    signatures: Mapping[str, SignatureSpec] = MappingProxyType({}),
) -> pa.Schema:
    """Return the columns of a version's log; without `inputs` none are sampled.

    `signatures` are those of a model from elsewhere, whose inputs are theirs and outputs no heads.
    """
    fields = list(FIXED)
    for head, config in heads.items():
        is_number = config.task == "regression"
        fields.append(pa.field(PREDICTED + head, pa.float64() if is_number else pa.int32()))
        if not is_number:
            fields.append(pa.field(CONFIDENCE + head, pa.float32()))
            fields.append(pa.field(SCORES + head, _lists_of(pa.float32())))
    fields += [
        pa.field(OUTPUT + name, _lists_of(kind)) for name, kind in output_types(signatures).items()
    ]
    if inputs is not None:
        fields += [pa.field(INPUT + name, input_type(spec)) for name, spec in inputs.items()]
        fields += [pa.field(INPUT + name, kind) for name, kind in input_types(signatures).items()]
        fields.append(pa.field(EXAMPLE, pa.binary()))
    return pa.schema(fields, _FORMAT)


def output_types(signatures: Mapping[str, SignatureSpec]) -> dict[str, pa.DataType]:
    """Return the type of each output's values; float64 where signatures differ in numbers.

    Where one answers text and another numbers under one name, it is that of the first.
    """
    return _value_types([one.outputs for _, one in sorted(signatures.items())])


def input_types(signatures: Mapping[str, SignatureSpec]) -> dict[str, pa.DataType]:
    """Return the type of each input of a model from elsewhere, as deep as its rows.

    Where signatures differ in numbers or in depth under one name, it is as `output_types` says, and
    as deep as in the first. An input without rows, or of any rank, is left out.
    """
    given = [one.inputs for _, one in sorted(signatures.items()) if one.method == "predict"]
    depths: dict[str, int] = {}
    for inputs in given:
        for name, spec in inputs.items():
            if spec.shape:
                depths.setdefault(name, len(spec.shape) - 1)
    types = _value_types(given)
    return {name: _nested(types[name], depth) for name, depth in depths.items()}


def _value_types(tensors: Sequence[Mapping[str, TensorSpec]]) -> dict[str, pa.DataType]:
    found: dict[str, pa.DataType] = {}
    for name, spec in (one for named in tensors for one in named.items()):
        own = _VALUE_TYPES[spec.dtype]
        known = found.setdefault(name, own)
        if known != own and pa.binary() not in (known, own):
            found[name] = pa.float64()
    return found


def input_type(spec: InputSpec) -> pa.DataType:
    """Return an input's type: a value, or lists of them, as deep as its shape."""
    depth = 1 if spec.is_variable_length else len(spec.shape)
    return _nested(_INPUT_TYPES[spec.dtype], depth)


def _nested(found: pa.DataType, depth: int) -> pa.DataType:
    for _ in range(depth):
        found = _lists_of(found)
    return found


def _lists_of(found: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", found))  # as Parquet calls it
