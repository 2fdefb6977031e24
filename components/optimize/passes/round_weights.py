"""Float weights get few distinct values: the file compresses well, the graph stays as it is."""

from collections.abc import Collection
from typing import Any

import numpy as np

from components.optimize.graph.editing import Array, GraphEdit, value_of
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.passes.change import Change, unchanged
from contract.schema.passes import RoundWeights


def apply(model: GraphModel, settings: RoundWeights, kept: Collection[str] = ()) -> Change:
    """Round float32 constants of `minimum_size` elements or more, but not those in `kept`.

    Their `num_steps` values lie evenly between the tensor's least and largest value, as in the
    Graph Transform Tool.
    """
    counts: list[int] = []

    def round_all(signature: SignatureGraph) -> SignatureGraph:
        edit = GraphEdit(signature)
        for node in _constants(edit, settings):
            if node.name not in kept:
                value = value_of(node)
                edit.set_value(node, round_to_steps(value, settings.num_steps))
                counts.append(value.size)
        return edit.result()

    rounded = model.rewritten(round_all)
    if not counts:
        return unchanged(model, "no float constant is large enough")
    return Change(
        rounded, f"{len(counts)} constants, {sum(counts)} weights, {settings.num_steps} values each"
    )


def roundable(model: GraphModel, settings: RoundWeights) -> tuple[str, ...]:
    """Return the names of the constants that `apply` would round, in graph order."""
    names: dict[str, None] = {}
    for signature in model.signatures.values():
        found = _constants(GraphEdit(signature), settings)
        names |= dict.fromkeys(node.name for node in found)
    return tuple(names)


def _constants(edit: GraphEdit, settings: RoundWeights) -> list[Any]:
    """Return the float32 constants that are large enough and have more values than steps."""
    found = []
    for node in edit.of_kind("Const"):
        value = edit.float_constant(node.name)
        if value is None or value.size < settings.minimum_size or not np.all(np.isfinite(value)):
            continue
        if not np.array_equal(round_to_steps(value, settings.num_steps), value):
            found.append(node)
    return found


def round_to_steps(value: Array, num_steps: int) -> Array:
    """Return the nearest of `num_steps` evenly spaced values from the least to the largest."""
    low, high = float(value.min()), float(value.max())
    if high == low:
        return value
    width = (high - low) / (num_steps - 1)
    steps = np.rint((value.astype(np.float64) - low) / width)
    return (low + steps * width).astype(np.float32)
