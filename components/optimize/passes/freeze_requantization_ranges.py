"""Ranges that were computed at each call become constants from calibration."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from components.optimize.graph.editing import GraphEdit, tensor_name
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.passes.change import Change, unchanged
from components.optimize.passes.quantize_nodes import FAKE_QUANT
from components.optimize.passes.remove_nodes import bypass

Range = tuple[float, float]


def apply(
    model: GraphModel, ranges: Mapping[str, Range], float_layers: Collection[str] = ()
) -> Change:
    """Freeze the range of every quantised tensor that has one in `ranges`, by tensor name.

    What layers in `float_layers` read goes back to float. Without this pass an answer depends on
    the rows that happen to be in the same batch.
    """
    counts: Counter[str] = Counter()

    def freeze(signature: SignatureGraph) -> SignatureGraph:
        edit = GraphEdit(signature)
        for node in _computed(edit):
            tensor = tensor_name(node.input[0])
            if _layer(node) in float_layers:
                edit.turn_to_identity(node, node.input[0])
                counts["back in float"] += 1
            elif tensor in ranges:
                for index, bound in enumerate(("low", "high")):
                    value = np.float32(ranges[tensor][index])
                    node.input[index + 1] = edit.add_constant(f"{node.name}_{bound}", value)
                counts["from calibration"] += 1
        return bypass(edit.result())

    changed = model.rewritten(freeze)
    if not counts:
        return unchanged(model, "no range is computed; quantize_nodes makes some")
    return Change(changed, ", ".join(f"{n} ranges {what}" for what, n in sorted(counts.items())))


def quantized(model: GraphModel) -> tuple[str, ...]:
    """Return the layers whose data has a range that is computed at each call, in graph order."""
    edits = [GraphEdit(signature) for signature in model.signatures.values()]
    return tuple(dict.fromkeys(_layer(node) for edit in edits for node in _computed(edit)))


def _computed(edit: GraphEdit) -> list[Any]:
    nodes = edit.of_kind(FAKE_QUANT)
    return [node for node in nodes if edit.constant(node.input[1]) is None]


def _layer(node: Any) -> str:
    """Return the layer that a quantised tensor was made for."""
    return str(node.name).removesuffix("/data")
