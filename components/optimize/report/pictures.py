"""Pictures of an optimisation: ledger, graph before and after, and each layer's calibration."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.figure import Figure

from components.optimize.graph.graphs import GraphModel, SignatureGraph, node_of
from components.optimize.judging.calibration import BINS, TensorValues
from components.optimize.optimize import Optimized
from components.optimize.report.ledger import as_figure
from contract.records.optimization import TensorRange

_MOST_BOXES = 60  # more do not read well on one page
_MOST_LINES = 6
_LONGEST_NAME = 28  # characters of an input's name, so that its box stays as wide as others
_LAYERS_A_PAGE = 12
_COLOURS = {
    "linear": "#8ecae6",
    "integer": "#f4a3a3",
    "input": "#b5d99c",
    "other": "#dddddd",
}
_LINEAR = frozenset(
    {"Conv2D", "Conv3D", "MatMul", "DepthwiseConv2dNative", "Conv2DBackpropInput", "BatchMatMulV2"}
)
_INTEGER = frozenset({"FakeQuantWithMinMaxVars", "Cast", "Dequantize", "QuantizeV2"})


def pictures_of(optimized: Optimized) -> Iterator[tuple[str, Figure]]:
    """Yield each picture with its file name."""
    record = optimized.record
    yield "ledger.png", as_figure(record.ledger)
    yield "graph_before.png", graph_figure(optimized.before, "before")
    yield "graph_after.png", graph_figure(optimized.after, "after")
    layers = list(zip(optimized.observed, record.calibration, strict=True))
    for page, start in enumerate(range(0, len(layers), _LAYERS_A_PAGE), 1):
        name = f"calibration_{page}.png" if len(layers) > _LAYERS_A_PAGE else "calibration.png"
        yield name, calibration_figure(layers[start : start + _LAYERS_A_PAGE])


# --- graphs -------------------------------------------------------------------------------------


def graph_figure(model: GraphModel, title: str) -> Figure:
    """Draw the first signature's operations from input (left) to output.

    What depends on constants alone is left out, and a chain of operations is one box. A graph of
    more than some 60 boxes is drawn by name scope: as deep as fits.
    """
    name, signature = next(iter(model.signatures.items()))
    drawn = _condensed(_operations(signature))
    columns = list(nx.topological_generations(drawn))
    tallest = max((len(column) for column in columns), default=1)
    size = (max(5.0, 1.7 * len(columns)), max(3.0, 1.3 * tallest + 0.8))
    figure = Figure(figsize=(min(40.0, size[0]), min(30.0, size[1])), layout="constrained")
    axes = figure.subplots()
    places = {
        node: (number, (len(column) - 1) / 2 - row)
        for number, column in enumerate(columns)
        for row, node in enumerate(sorted(column))
    }
    for before, after in drawn.edges:
        arrow = {"arrowstyle": "->", "color": "#aaaaaa", "shrinkA": 22, "shrinkB": 22}
        axes.annotate("", places[after], places[before], arrowprops=arrow)
    for node, (x, y) in places.items():
        box = {"boxstyle": "round", "facecolor": _COLOURS[drawn.nodes[node]["kind"]], "lw": 0}
        label = drawn.nodes[node]["label"]
        axes.text(x, y, label, ha="center", va="center", fontsize=7, bbox=box)
    axes.set_xlim(-0.7, max(1, len(columns)) - 0.3)
    axes.set_ylim(-tallest / 2 - 0.3, tallest / 2 + 0.3)
    axes.set_title(f"{title}: signature {name}, {model.operations().total()} operations in all")
    axes.axis("off")
    return figure


def _operations(signature: SignatureGraph) -> "nx.DiGraph[str]":
    """Return the operations that read each other's data, from an input on.

    Inputs are called by their names, and so are variables and tables that stand outside.
    """
    nodes = {node.name: node for node in signature.graph_def.node}
    inputs = {node_of(tensor): name for name, (tensor, _) in signature.inputs.items()}
    names = {node_of(tensor): _captured_name(one) for tensor, one in signature.captures.items()}
    names |= inputs
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, node in nodes.items():
        kind = _cut(names.get(name, node.op))
        graph.add_node(name, kinds=Counter([kind]), is_input=name in inputs)
        sources = [node_of(r) for r in node.input if not r.startswith("^")]
        graph.add_edges_from((source, name) for source in sources)
    starts = [name for name, node in nodes.items() if node.op == "Placeholder"]
    shown = set(starts).union(*(nx.descendants(graph, name) for name in starts))
    drawn: nx.DiGraph[str] = graph.subgraph(shown).copy()
    for name in [name for name in shown if nodes[name].op == "Identity"]:
        readers, sources = list(drawn.successors(name)), list(drawn.predecessors(name))
        drawn.add_edges_from((source, reader) for source in sources for reader in readers)
        drawn.remove_node(name)
    return drawn


def _captured_name(captured: Any) -> str:
    """Return what a variable, a table or a constant outside of a graph is called."""
    name = str(getattr(captured, "name", None) or type(captured).__name__)
    return name.split(":")[0]


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _condensed(graph: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    """Make one box of each chain; if there are too many boxes still, of each name scope.

    Scopes that read each other in a circle are one box, and so is a loop of TensorFlow 1.
    """
    joined = _joined(graph, _chains(graph))
    deepest = max((name.count("/") + 1 for name in graph), default=1)
    for depth in range(deepest, 0, -1):
        if len(joined) <= _MOST_BOXES:
            break
        joined = _joined(graph, {name: "/".join(name.split("/")[:depth]) for name in graph})
    return joined


def _chains(graph: "nx.DiGraph[str]") -> dict[str, str]:
    """Return for each operation the first one of its chain; a chain has one layer at most."""
    first: dict[str, str] = {}
    circles = nx.condensation(graph)
    order = [n for c in nx.topological_sort(circles) for n in sorted(circles.nodes[c]["members"])]
    for name in order:
        sources = list(graph.predecessors(name))
        kind = next(iter(graph.nodes[name]["kinds"]))
        is_inside = len(sources) == 1 and graph.out_degree(sources[0]) == 1
        starts_box = kind in _LINEAR or kind in _INTEGER
        is_after_input = is_inside and graph.nodes[sources[0]]["is_input"]
        joins = is_inside and not starts_box and not is_after_input and sources[0] in first
        first[name] = first[sources[0]] if joins else name
    return first


def _joined(graph: "nx.DiGraph[str]", group: dict[str, str]) -> "nx.DiGraph[str]":
    scopes: nx.DiGraph[str] = nx.DiGraph()
    kinds: dict[str, Counter[str]] = {}
    inputs = {group[name] for name in graph if graph.nodes[name]["is_input"]}
    for name in graph:
        scopes.add_node(group[name])
        kinds.setdefault(group[name], Counter()).update(graph.nodes[name]["kinds"])
    scopes.add_edges_from((group[a], group[b]) for a, b in graph.edges if group[a] != group[b])
    circles = nx.condensation(scopes)
    drawn: nx.DiGraph[str] = nx.DiGraph()
    for number in circles:
        members = circles.nodes[number]["members"]
        inside = sum((kinds[member] for member in members), Counter[str]())
        kind = "input" if inputs & members else _kind(inside)
        drawn.add_node(str(number), label=_label(inside), kind=kind)
    drawn.add_edges_from((str(a), str(b)) for a, b in circles.edges)
    return drawn


def _label(kinds: Counter[str]) -> str:
    words = {"DepthwiseConv2dNative": "DepthwiseConv2d", "FakeQuantWithMinMaxVars": "FakeQuant"}
    lines = [f"{words.get(kind, kind)}{f' ×{n}' if n > 1 else ''}" for kind, n in kinds.items()]
    more = len(lines) - _MOST_LINES
    return "\n".join([*lines[:_MOST_LINES], *([f"… {more} more"] if more > 0 else [])])


def _kind(kinds: Counter[str]) -> str:
    if _INTEGER & kinds.keys():
        return "integer"
    return "linear" if _LINEAR & kinds.keys() else "other"


# --- calibration --------------------------------------------------------------------------------


def calibration_figure(shown: Sequence[tuple[TensorValues, TensorRange]]) -> Figure:
    """Draw the histogram of magnitudes that each layer reads, and where 8 bits are cut off."""
    rows = -(-len(shown) // 3)
    figure = Figure(figsize=(13, 2.4 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, min(3, len(shown)), squeeze=False).ravel()
    for place, (values, one) in zip(axes, shown, strict=False):
        centres = (np.arange(BINS) + 0.5) * values.magnitude / BINS
        place.fill_between(centres, values.counts, step="mid", color=_COLOURS["linear"])
        place.set_yscale("symlog")
        place.axvline(max(-one.low, one.high), color=_COLOURS["integer"])
        place.set_title(f"{_short(values.layer)}: {one.low:.3g} to {one.high:.3g}", fontsize=8)
        place.tick_params(labelsize=7)
    for place in axes[len(shown) :]:
        place.axis("off")
    figure.suptitle("Magnitudes that layers read (zeros left out); red: the end of 8 bits")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"…{name[-39:]}"
