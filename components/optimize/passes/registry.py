"""The passes that there are, under the names that the config uses."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.calibration import TensorValues
from components.optimize.passes import (
    fold_batch_norms,
    fold_constants,
    fold_old_batch_norms,
    freeze_graph,
    freeze_requantization_ranges,
    fuse,
    grappler,
    merge_duplicate_nodes,
    quantize_nodes,
    quantize_weights,
    remove_nodes,
    round_weights,
    sort_by_execution_order,
    strip_unused_nodes,
)
from components.optimize.passes.change import Change
from contract.schema.passes import (
    FreezeRequantizationRanges,
    Pass,
    QuantizeWeights,
    RoundWeights,
)

FloatPass = Callable[[GraphModel], Change]

FLOAT_PASSES: Mapping[str, FloatPass] = MappingProxyType(
    {
        "freeze_graph": freeze_graph.apply,
        "strip_unused_nodes": strip_unused_nodes.apply,
        "remove_nodes": remove_nodes.apply,
        "fold_constants": fold_constants.apply,
        "fold_batch_norms": fold_batch_norms.apply,
        "fold_old_batch_norms": fold_old_batch_norms.apply,
        "merge_duplicate_nodes": merge_duplicate_nodes.apply,
        "grappler": grappler.apply,
        "sort_by_execution_order": sort_by_execution_order.apply,
        "fuse": fuse.apply,
    }
)


@dataclass(frozen=True)
class LossyPass:
    """A pass that may cost digits, bound to its settings and the model that it changes.

    Attributes:
        layers: What it would change, in graph order; each can be left as it is by itself.
        apply: Changes all but the layers given.
    """

    layers: tuple[str, ...]
    apply: Callable[[Collection[str]], Change]


def lossy_pass(
    settings: Pass, model: GraphModel, observed: Callable[[], list[TensorValues]]
) -> LossyPass:
    """Return a lossy pass over a model.

    Args:
        settings: Which one, and its arguments.
        model: What it is to change.
        observed: Gives the values that the float model's tensors had on the calibration rows.
    """
    match settings:
        case RoundWeights():
            return LossyPass(
                round_weights.roundable(model, settings),
                lambda kept: round_weights.apply(model, settings, kept),
            )
        case QuantizeWeights():
            return LossyPass(
                quantize_weights.quantizable(model, settings),
                lambda kept: quantize_weights.apply(model, settings, kept),
            )
        case FreezeRequantizationRanges():
            layers = freeze_requantization_ranges.quantized(model)
            found = [one.range(settings.method) for one in observed()] if layers else []
            ranges = {one.tensor: (one.low, one.high) for one in found}
            return LossyPass(
                layers, lambda kept: freeze_requantization_ranges.apply(model, ranges, kept)
            )
        case _:
            return LossyPass(
                quantize_nodes.quantizable(model), lambda kept: quantize_nodes.apply(model, kept)
            )
