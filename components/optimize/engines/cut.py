"""Cuts a signature in two: what only TensorFlow can compute, and a numeric core for any engine.

Strings, lookup tables, parsers and ragged or sparse rows stay in front, in TensorFlow; everything
that they do not depend on goes into the core. That is the largest part of the graph that ends in
the outputs, takes only dense numbers and can be given to an engine without strings.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from components.optimize.graph.editing import tensor_name
from components.optimize.graph.graphs import SignatureGraph, node_of
from contract.errors import DataError

_FLOATS = {tf.float16, tf.bfloat16, tf.float32, tf.float64}
_NUMERIC = _FLOATS | {tf.bool, tf.int8, tf.uint8, tf.int16, tf.int32, tf.int64}
# No engine but TensorFlow takes them reliably: the shapes of their outputs depend on values, or,
# the last four (tf.Transform's buckets), the others do not know them.
_TENSORFLOW_ONLY = (
    "Ragged", "Sparse", "Unique", "Where", "Dynamic", "Bincount", "DenseBincount",
    "UpperBound", "LowerBound", "Bucketize", "BoostedTreesBucketize",
)  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """One signature in two parts.

    Attributes:
        front: From the signature's inputs to the core's, in TensorFlow; None where the signature's
            inputs are all that the core takes.
        core: Dense numbers to outputs: frozen, no captures, no strings. Its inputs carry the names
            of the front's outputs, or, where they come from the caller as they are, of the
            signature's inputs.
        passed: Outputs that the front gives, by name: text that is answered as it is looked up.
    """

    front: SignatureGraph | None
    core: SignatureGraph
    passed: tuple[str, ...]


def cut(signature: SignatureGraph) -> Cut:
    """Cut a signature where its text ends.

    Raises:
        DataError: If nothing is left for the core: every output is, or needs at its end, text.
    """
    frozen = signature.frozen()
    graph = _imported(frozen.graph_def)
    front = _front_of(graph, frozen)
    fetched = {name: tensor for name, (tensor, _) in frozen.outputs.items()}
    passed = tuple(name for name, tensor in fetched.items() if node_of(tensor) in front)
    core_outputs = {n: o for n, o in frozen.outputs.items() if n not in passed}
    nodes = _ancestors(graph, [tensor for tensor, _ in core_outputs.values()], front)
    kinds = Counter(graph.get_operation_by_name(name).type for name in nodes)
    if not kinds.keys() - {"Placeholder", "Const", "Identity"}:
        raise DataError("no numeric part: every output comes from text, tables or ragged rows")
    crossing = _crossing(graph, nodes, frozen)
    core = _core(frozen, nodes, crossing, core_outputs)
    if not passed and all(name in frozen.inputs for name in crossing.values()):
        return Cut(None, core, ())
    kept = {n: frozen.outputs[n] for n in passed}
    given = {n: (t, _spec(graph, t, n)) for t, n in crossing.items() if n not in frozen.inputs}
    return Cut(_front(frozen, graph, {**given, **kept}), core, passed)


def _imported(graph_def: Any) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    return graph


def _front_of(graph: Any, signature: SignatureGraph) -> frozenset[str]:
    """Return the names of all nodes that something needs which is not purely numeric.

    Ids made of text are among them.
    """
    bodies = {f.signature.name: f for f in signature.graph_def.library.function}
    needed = _ancestors(graph, signature.fetches)
    foreign = {
        name for name in needed if not _is_numeric(graph.get_operation_by_name(name), bodies)
    }
    foreign |= _ids_of_text(graph, needed, foreign)
    # What needs no input can be computed in both parts, and so need not cross.
    known = _known(graph, foreign)
    return frozenset(
        name
        for name in _ancestors(graph, [f"{name}:0" for name in foreign])
        if name in foreign
        or not (name in known or graph.get_operation_by_name(name).type == "Placeholder")
    )


def _ids_of_text(graph: Any, needed: set[str], foreign: set[str]) -> set[str]:
    """Return the nodes of ids, made of text by whole numbers alone, that tables are read at.

    They cross as ids, so that the server can check them: not every engine refuses an id that a
    table has no row for.
    """
    found = set[str]()
    for name in needed - foreign:
        operation = graph.get_operation_by_name(name)
        if operation.type != "GatherV2":
            continue
        index = operation.inputs[1]
        before = _ancestors(graph, [index.name])
        own = before - _ancestors(graph, [f"{n}:0" for n in before & foreign])
        if before & foreign and all(_is_whole(graph.get_operation_by_name(n)) for n in own):
            found.add(index.op.name)
    return found


def _is_whole(operation: Any) -> bool:
    return all(tensor.dtype.is_integer or tensor.dtype.is_bool for tensor in operation.outputs)


def _known(graph: Any, foreign: set[str]) -> set[str]:
    """Return the nodes that depend on constants only. A graph lists its nodes in order of data."""
    known = set[str]()
    for operation in graph.get_operations():
        is_known = all(tensor.op.name in known for tensor in operation.inputs)
        if is_known and operation.type != "Placeholder" and operation.name not in foreign:
            known.add(operation.name)
    return known


def _is_numeric(operation: Any, bodies: Mapping[str, Any]) -> bool:
    tensors = [*operation.inputs, *operation.outputs]
    if not all(tensor.dtype in _NUMERIC for tensor in tensors):
        return False
    if operation.type.startswith(_TENSORFLOW_ONLY):
        return False
    called = list(_called(operation.node_def))
    if called:
        return all(_is_numeric_body(name, bodies) for name in called)
    return not operation.op_def.is_stateful or operation.type == "Placeholder"


def _is_numeric_body(name: str, bodies: Mapping[str, Any]) -> bool:
    """Tell whether a loop or branch body, and what it calls, works on numbers only."""
    for node in bodies[name].node_def:
        dtypes = [attribute.type for attribute in node.attr.values() if attribute.type]
        if node.op.startswith(_TENSORFLOW_ONLY) or not all(
            tf.as_dtype(dtype) in _NUMERIC for dtype in dtypes
        ):
            return False
        if not all(_is_numeric_body(called, bodies) for called in _called(node)):
            return False
    return True


def _called(node: Any) -> Iterator[str]:
    for attribute in node.attr.values():
        for function in [attribute.func, *attribute.list.func]:
            if function.name:
                yield function.name


def _ancestors(graph: Any, tensors: list[str], beyond: Collection[str] = ()) -> set[str]:
    """Return all nodes whose data the tensors depend on; control edges carry none.

    Nodes in `beyond`, and what only they depend on, are left out.
    """
    waiting, found = [node_of(tensor) for tensor in tensors], set[str]()
    while waiting:
        if (name := waiting.pop()) not in found and name not in beyond:
            found.add(name)
            waiting += [tensor.op.name for tensor in graph.get_operation_by_name(name).inputs]
    return found


def _crossing(graph: Any, nodes: set[str], signature: SignatureGraph) -> dict[str, str]:
    """Return the core's inputs: by tensor, the name under which the core takes it."""
    names = {tensor: name for name, (tensor, _) in signature.inputs.items()}
    taken = {*signature.inputs, *signature.outputs, *nodes}  # a feature may be called cut_0
    free = (name for name in map("cut_{}".format, count()) if name not in taken)
    found = dict[str, str]()
    for node in sorted(nodes):
        operation = graph.get_operation_by_name(node)
        if operation.outputs and operation.outputs[0].name in names:
            found[operation.outputs[0].name] = names[operation.outputs[0].name]
        for tensor in operation.inputs:
            if tensor.op.name not in nodes and tensor.name not in found:
                found[tensor.name] = next(free)
    return found


def _core(
    signature: SignatureGraph,
    nodes: set[str],
    crossing: Mapping[str, str],
    outputs: Mapping[str, tuple[str, tf.TensorSpec]],
) -> SignatureGraph:
    """Return the numeric part as a separate signature."""
    graph = _imported(signature.graph_def)
    placeholders = {tensor: f"{name}:0" for tensor, name in crossing.items()}
    body = graph_pb2.GraphDef(
        versions=signature.graph_def.versions, library=signature.graph_def.library
    )
    for tensor, name in crossing.items():
        found = graph.get_tensor_by_name(tensor)
        node = body.node.add(name=name, op="Placeholder")
        node.attr["dtype"].type = found.dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(found.shape.as_proto())
    taken = {node_of(tensor) for tensor in crossing}
    for original in signature.graph_def.node:
        if original.name in nodes and original.name not in taken:
            node = body.node.add()
            node.CopyFrom(original)
            inputs = [i for i in original.input if not i.startswith("^")]
            del node.input[:]
            node.input.extend(placeholders.get(tensor_name(i), i) for i in inputs)
    return SignatureGraph(
        graph_def=body,
        inputs={n: (f"{n}:0", _spec(graph, t, n)) for t, n in crossing.items()},
        outputs={n: (placeholders.get(t, t), spec) for n, (t, spec) in outputs.items()},
        captures={},
    )


def _front(
    signature: SignatureGraph, graph: Any, outputs: Mapping[str, tuple[str, tf.TensorSpec]]
) -> SignatureGraph:
    """Return the text part, with those of the signature's inputs that it needs."""
    needed = _ancestors(graph, [tensor for tensor, _ in outputs.values()])
    body = graph_pb2.GraphDef(
        versions=signature.graph_def.versions, library=signature.graph_def.library
    )
    for original in signature.graph_def.node:
        if original.name in needed:
            node = body.node.add()
            node.CopyFrom(original)
            data = [i for i in original.input if not i.startswith("^")]
            del node.input[:]
            node.input.extend(data)
    inputs = {n: i for n, i in signature.inputs.items() if node_of(i[0]) in needed}
    return replace(signature, inputs=inputs, outputs=dict(outputs)).with_graph(body)


def _spec(graph: Any, tensor: str, name: str) -> tf.TensorSpec:
    found = graph.get_tensor_by_name(tensor)
    return tf.TensorSpec(found.shape, found.dtype, name)
