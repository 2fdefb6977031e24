"""Nodes are written in an order in which few bytes are alive at a time."""

from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.passes.change import Change, unchanged

_BACK_EDGE = "NextIteration"  # what reads it comes first: a loop as TensorFlow 1 wrote it
_UNKNOWN_SIZE = 1  # of an axis whose length is not known, as the batch's


def apply(model: GraphModel) -> Change:
    """Sort every graph so that each node follows its inputs and dead tensors go early.

    Greedy: of the nodes that could run, the one that lets most bytes go and makes fewest. The
    optimal order is NP-hard to find (Sethi 1975, SIAM J. Computing 4(3), 226–248). TensorFlow's
    executor runs what is ready, in no fixed order; engines that run a graph as it is written
    (LiteRT, interpreters) need just the memory that this leaves.
    """
    notes = []
    signatures = {}
    for name, signature in model.signatures.items():
        before = [node.name for node in signature.graph_def.node]
        signatures[name], order = _sorted(signature)
        if order.names != before:
            notes.append(f"{_in_words(order.bytes_before)} → {_in_words(order.bytes_after)}")
    if not notes:
        return unchanged(model, "the order is already the best found")
    return Change(
        replace(model, signatures=signatures),
        f"alive at most, for one row: {', '.join(notes)}",
    )


@dataclass(frozen=True)
class _Order:
    names: list[str]
    bytes_before: int
    bytes_after: int


def _sorted(signature: SignatureGraph) -> tuple[SignatureGraph, _Order]:
    graph = signature.graph_def
    sizes = _tensor_bytes(graph)
    loops = {node.name for node in graph.node if node.op == _BACK_EDGE}
    inputs = {node.name: {node_of(r) for r in node.input} - loops for node in graph.node}
    plain = _topological(inputs)
    lean = _lean(inputs, sizes)
    before, after = peak_bytes(plain, inputs, sizes), peak_bytes(lean, inputs, sizes)
    names = lean if after < before else plain
    nodes = {node.name: node for node in graph.node}
    result = graph_pb2.GraphDef(versions=graph.versions, library=graph.library)
    result.node.extend(nodes[name] for name in names)
    return signature.with_graph(result), _Order(names, before, min(before, after))


def peak_bytes(order: list[str], inputs: dict[str, set[str]], sizes: dict[str, int]) -> int:
    """Return the most bytes alive at a time, if each tensor is let go after its last reader.

    What nobody reads is an output, and stays.
    """
    waiting = _reader_counts(inputs)
    alive = peak = 0
    for name in order:
        alive += sizes[name]
        peak = max(peak, alive)
        for source in inputs[name]:
            waiting[source] -= 1
            alive -= 0 if waiting[source] else sizes[source]
    return peak


def _topological(inputs: dict[str, set[str]]) -> list[str]:
    """Return the nodes as they are written, moved behind their inputs where need be."""
    order: dict[str, None] = {}
    for root in inputs:
        waiting = [root]
        while waiting:
            name = waiting[-1]
            missing = [source for source in sorted(inputs[name]) if source not in order]
            if name in order or not missing:
                order.setdefault(waiting.pop())
            else:
                waiting.extend(missing)
    return list(order)


def _lean(inputs: dict[str, set[str]], sizes: dict[str, int]) -> list[str]:
    """Return the greedy order; ties go by name, so that it is always the same."""
    waiting = _reader_counts(inputs)
    readers: dict[str, list[str]] = {name: [] for name in inputs}
    for name, sources in inputs.items():
        for source in sources:
            readers[source].append(name)
    missing = {name: len(sources) for name, sources in inputs.items()}
    ready, order = {name for name, count in missing.items() if not count}, list[str]()

    def cost(name: str) -> tuple[int, str]:
        freed = sum(sizes[source] for source in inputs[name] if waiting[source] == 1)
        return sizes[name] - freed, name

    while ready:
        name = min(ready, key=cost)
        ready.remove(name)
        order.append(name)
        for source in inputs[name]:
            waiting[source] -= 1
        for reader in readers[name]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.add(reader)
    return order


def _reader_counts(inputs: dict[str, set[str]]) -> dict[str, int]:
    counts = dict.fromkeys(inputs, 0)
    for sources in inputs.values():
        for source in sources:
            counts[source] += 1
    return counts


def _tensor_bytes(graph_def: Any) -> dict[str, int]:
    """Return by node the bytes of its outputs for a batch of one; constants are always there: 0."""
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    return {
        operation.name: 0
        if operation.type == "Const"
        else sum(_bytes(output) for output in operation.outputs)
        for operation in graph.get_operations()
    }


def _bytes(tensor: Any) -> int:
    if tensor.shape.rank is None:
        return int(tensor.dtype.size or 1)
    elements = 1
    for size in tensor.shape:
        elements *= _UNKNOWN_SIZE if size is None else size
    return int(elements * (tensor.dtype.size or 1))


def _in_words(count: int) -> str:
    return f"{count / 1024:.1f} KiB"
