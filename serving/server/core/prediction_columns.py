"""From answered requests to the columns of the prediction log, many requests at a time."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE, output_names
from contract.prediction_log.columns import (
    CONFIDENCE,
    EXAMPLE,
    INPUT,
    OUTPUT,
    PREDICTED,
    SCORES,
    log_schema,
    output_types,
)
from contract.records.package import InputSpec, PackageManifest
from serving.server.engines.engine import Columns, Outputs

Array = np.ndarray[Any, Any]

_ANSWERED = 200


class Answer(NamedTuple):
    """One request and what became of it: outputs, or the status with which it was refused."""

    request_id: bytes
    arm: bytes
    signature: str
    time: float  # seconds since 1970
    seconds: float
    found: Outputs | int
    inputs: Columns | None = None

    def size_bytes(self) -> int:
        """Return about what it holds in memory."""
        size = 0
        if type(self.found) is dict:
            for array in self.found.values():
                size += held_bytes(array)
        if self.inputs is not None:
            size += sum(map(held_bytes, self.inputs.values()))
        return size


class PredictionColumns:
    """Makes the log's columns for one version of a model."""

    def __init__(self, manifest: PackageManifest) -> None:
        self._version = manifest.version
        self._heads = manifest.heads
        self._outputs = output_names(manifest.heads)
        self._inputs = manifest.inputs if manifest.serve.prediction_log_inputs_ratio else None
        self._output_types = output_types(manifest.signatures)
        self.schema = log_schema(manifest.heads, self._inputs, manifest.signatures)
        self._sampled_types = {
            field.name: field.type
            for field in self.schema
            if manifest.is_imported and field.name.startswith((INPUT, EXAMPLE))
        }

    def batches(self, answers: Sequence[Answer]) -> list[pa.RecordBatch]:
        """Return the rows of all requests; those of one request follow each other in one batch."""
        refused: list[Answer] = []
        answered: dict[tuple[str, ...], list[Answer]] = {}
        for answer in answers:
            if isinstance(answer.found, int):
                refused.append(answer)
            else:
                answered.setdefault((answer.signature, *answer.found), []).append(answer)
        batches = [self._answered(kind[0], own) for kind, own in answered.items()]
        return [*batches, self._refused(refused)] if refused else batches

    def _answered(self, signature: str, answers: Sequence[Answer]) -> pa.RecordBatch:
        outputs = [answer.found for answer in answers if not isinstance(answer.found, int)]
        sizes = np.array([len(next(iter(own.values()), (None,))) for own in outputs])
        ends = sizes.cumsum()
        columns = self._fixed(answers) | self._constant(len(answers), signature, _ANSWERED)
        count = int(ends[-1])
        if (sizes != 1).any():
            of_row = pa.array(np.repeat(np.arange(len(answers)), sizes))
            columns = {name: column.take(of_row) for name, column in columns.items()}
        rows = np.arange(count) - np.repeat(ends - sizes, sizes)
        columns |= {"row": pa.array(rows.astype(np.int32))} | self._predicted(outputs)
        if self._inputs is not None:
            columns |= self._sampled(signature, [answer.inputs for answer in answers], sizes)
        return self._batch(columns, count)

    def _refused(self, answers: Sequence[Answer]) -> pa.RecordBatch:
        """Return one row for each refused request."""
        count = len(answers)
        columns = self._fixed(answers) | self._constant(count, "", _ANSWERED)
        columns["status"] = pa.array([answer.found for answer in answers], pa.int16())
        columns["row"] = pa.array(np.zeros(count, np.int32))
        return self._batch(columns, count)

    def _batch(self, columns: Mapping[str, pa.Array], rows: int) -> pa.RecordBatch:
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(rows, field.type)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _fixed(self, answers: Sequence[Answer]) -> dict[str, pa.Array]:
        """Return what differs between requests, an entry a request."""
        ids, arms, _, moments, seconds, _, _ = zip(*answers, strict=True)
        micros = (np.array(moments) * 1e6).round().astype(np.int64)
        return {
            "time": pa.array(micros).cast(self.schema.field("time").type),
            "request_id": pa.array([request_id.decode("latin-1") for request_id in ids]),
            "arm": pa.array([arm.decode("latin-1") for arm in arms]),
            "latency_seconds": pa.array(np.array(seconds, np.float32)),
        }

    def _constant(self, count: int, signature: str, status: int) -> dict[str, pa.Array]:
        return {
            "version": pa.array(np.full(count, self._version, np.int32)),
            "signature": pa.repeat(signature, count),
            "status": pa.array(np.full(count, status, np.int16)),
        }

    def _predicted(self, outputs: Sequence[Outputs]) -> dict[str, pa.Array]:
        columns: dict[str, pa.Array] = {}
        for head, name in self._outputs.items():
            if name not in outputs[0]:
                continue  # this signature does not answer for this head
            values = np.concatenate([own[name] for own in outputs])
            values = values.reshape(len(values), -1).astype(np.float64)
            if self._heads[head].task == "regression":
                columns[PREDICTED + head] = pa.array(values[:, 0])
            else:
                columns[PREDICTED + head] = pa.array(values.argmax(axis=1).astype(np.int32))
                columns[CONFIDENCE + head] = pa.array(values.max(axis=1).astype(np.float32))
                columns[SCORES + head] = _lists(values.astype(np.float32))
        for name, kind in self._output_types.items():
            if name in outputs[0] and _has_text(outputs[0][name]) == pa.types.is_binary(kind):
                columns[OUTPUT + name] = _values([own[name] for own in outputs], kind)
        return columns

    def _sampled(
        self, signature: str, inputs: Sequence[Columns | None], sizes: Array
    ) -> dict[str, pa.Array]:
        """Return the inputs of sampled requests, null in the rows of the others."""
        sampled = [own for own in inputs if own is not None]
        if not sampled:
            return {}
        is_sampled = np.repeat([own is not None for own in inputs], sizes)
        place = pa.array(is_sampled.cumsum() - 1, mask=~is_sampled)
        if self._sampled_types:
            return self._sampled_of_elsewhere(inputs, sizes)
        if signature == EXAMPLES_SIGNATURE:
            examples = [value for own in sampled for value in next(iter(own.values())).tolist()]
            return {EXAMPLE: pa.array(examples, pa.binary()).take(place)}
        if signature != DEFAULT_SIGNATURE:
            return {}
        return {
            INPUT + name: _input(spec, [own[name] for own in sampled]).take(place)
            for name, spec in (self._inputs or {}).items()
        }

    def _sampled_of_elsewhere(
        self, inputs: Sequence[Columns | None], sizes: Array
    ) -> dict[str, pa.Array]:
        """Return the same for a model from elsewhere; here inputs have the names of columns."""
        columns = {}
        for name, kind in self._sampled_types.items():
            given = [None if own is None else own.get(name) for own in inputs]
            pairs = zip(given, sizes.tolist(), strict=True)
            fitting = [rows if _fits(rows, size, kind) else None for rows, size in pairs]
            if found := [rows for rows in fitting if rows is not None]:
                is_there = np.repeat([rows is not None for rows in fitting], sizes)
                place = pa.array(is_there.cumsum() - 1, mask=~is_there)
                columns[name] = _deep(found, kind).take(place)
        return columns


def held_bytes(column: Array) -> int:
    """Return what an array holds; text may be a picture of megabytes."""
    texts = sum(map(len, column.ravel().tolist())) if column.dtype.kind == "O" else 0
    return column.nbytes + texts


def _has_text(column: Array) -> bool:
    return column.dtype.kind in "OSU"


def _values(parts: Sequence[Array], kind: pa.DataType) -> pa.Array:
    """Return all values of each row as a list; rows of different requests may have other shapes."""
    lengths = np.concatenate([np.full(len(part), part[:1].size) for part in parts])
    flat = [part.ravel() for part in parts]
    if pa.types.is_binary(kind):
        texts = [v.encode() if isinstance(v, str) else bytes(v) for one in flat for v in one]
        values = pa.array(texts, kind)
    else:
        values = pa.array(np.concatenate([one.astype(kind.to_pandas_dtype()) for one in flat]))
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _fits(rows: Array | None, count: int, kind: pa.DataType) -> bool:
    """Tell whether a column can hold what a request has sent."""
    if rows is None or rows.ndim == 0 or len(rows) != count:
        return False
    depth, leaf = _depth_and_leaf(kind)
    return rows.ndim == depth + 1 and _has_text(rows) == pa.types.is_binary(leaf)


def _deep(parts: Sequence[Array], kind: pa.DataType) -> pa.Array:
    """Return the rows of requests as lists; rows of different requests may have other shapes."""
    _, leaf = _depth_and_leaf(kind)
    dtype = object if pa.types.is_binary(leaf) else leaf.to_pandas_dtype()
    if len({part.shape[1:] for part in parts}) == 1:
        parts = [np.concatenate([part.astype(dtype, copy=False) for part in parts])]
    return pa.concat_arrays([_lists(part.astype(dtype), leaf) for part in parts]).cast(kind)


def _depth_and_leaf(kind: pa.DataType) -> tuple[int, pa.DataType]:
    depth = 0
    while pa.types.is_list(kind):
        depth, kind = depth + 1, kind.value_type
    return depth, kind


def _input(spec: InputSpec, parts: Sequence[Array]) -> pa.Array:
    """Return one input of all requests; each part is `[rows, ...]`, as wide as it needs."""
    if not spec.is_variable_length:
        return _lists(np.concatenate(parts), _leaf(spec))
    lengths, values = [], []
    for part in parts:
        is_value = _is_value(part, spec)
        lengths.append(is_value.sum(axis=1))
        values.append(part[is_value])
    offsets = np.concatenate([[0], np.concatenate(lengths).cumsum()]).astype(np.int32)
    flat = pa.array(np.concatenate(values), _leaf(spec))
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _is_value(padded: Array, spec: InputSpec) -> Array:
    """Tell values from padding, which the signature drops, too."""
    return ~np.isnan(padded) if spec.dtype == "float32" else padded != spec.filler


def _leaf(spec: InputSpec) -> pa.DataType:
    types: Mapping[str, pa.DataType] = {"float32": pa.float32(), "int64": pa.int64()}
    return types.get(spec.dtype, pa.binary())


def _lists(values: Array, leaf: pa.DataType | None = None) -> pa.Array:
    """Return `[rows, ...]` as lists in lists, one level for each axis after the first."""
    found = pa.array(values.reshape(-1), leaf)
    for axis in range(values.ndim - 1, 0, -1):
        size, count = values.shape[axis], int(np.prod(values.shape[:axis]))
        found = pa.ListArray.from_arrays(
            pa.array(np.arange(count + 1, dtype=np.int32) * size), found
        )
    return found
