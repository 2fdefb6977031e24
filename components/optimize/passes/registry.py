"""The passes that there are, under the names that the config uses."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from components.optimize.graphs import GraphModel
from components.optimize.passes import (
    fold_constants,
    freeze_graph,
    grappler,
    remove_nodes,
    strip_unused_nodes,
)
from components.optimize.passes.change import Change

Pass = Callable[[GraphModel], Change]

PASSES: Mapping[str, Pass] = MappingProxyType(
    {
        "freeze_graph": freeze_graph.apply,
        "strip_unused_nodes": strip_unused_nodes.apply,
        "remove_nodes": remove_nodes.apply,
        "fold_constants": fold_constants.apply,
        "grappler": grappler.apply,
    }
)
