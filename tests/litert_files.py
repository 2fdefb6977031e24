"""A LiteRT file made by hand, for tests without TensorFlow."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SIGNATURE = "serving_default"


def adding_file(constants: np.ndarray) -> bytes:
    """Return a model of one signature: `y = x + constants`, float32 `[rows, columns]`.

    LiteRT can prepare it only for an `x` whose columns are as many as the constants, or one.
    """
    graph = schema.SubGraphT()
    graph.name = "main"
    rows = [1, len(constants)]
    graph.tensors = [_tensor("x", rows, 0), _tensor("c", rows[1:], 1), _tensor("y", rows, 0)]
    graph.inputs, graph.outputs = [0], [2]
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
    operator.builtinOptions = schema.AddOptionsT()
    graph.operators = [operator]
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = schema.BuiltinOperator.ADD, 1
    values = schema.BufferT()
    values.data = np.frombuffer(constants.astype(np.float32).tobytes(), np.uint8)
    model = schema.ModelT()
    model.version, model.description = 3, "made by hand"
    model.subgraphs, model.operatorCodes = [graph], [code]
    model.buffers = [schema.BufferT(), values]
    model.signatureDefs = [_signature()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, shape: list[int], buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
    tensor.type = schema.TensorType.FLOAT32
    return tensor


def _signature() -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = [_named("x", 0)], [_named("y", 2)]
    return signature


def _named(name: str, place: int) -> Any:
    named = schema.TensorMapT()
    named.name, named.tensorIndex = name, place
    return named
