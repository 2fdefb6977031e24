"""A SavedModel as graphs that passes may rewrite: lifted, inlined, bound to what they capture."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from components.models.saved_models import EXAMPLES_PARSER, load
from components.models.tensorflow_internals import (
    Asset,
    CapturableResource,
    TrackableView,
    context,
    convert_variables_to_constants_v2,
    ops,
)
from components.optimize.graph.grappler import inline_calls
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE

_RENAMED = "_slipway_"
_PART = ":"


@dataclass(frozen=True)
class SignatureGraph:
    """One signature as a flat graph.

    Attributes:
        graph_def: Nodes, calls inlined. Inputs and captures are `Placeholder` nodes.
        inputs: By argument name, the tensor in the graph (`x:0`) and its spec.
        outputs: By output name, the tensor in the graph and its spec.
        captures: By placeholder tensor, what it stands for outside of the graph: a variable, a
            table, an asset, or an eager tensor.
        composites: By output name, the spec of one that is made of several tensors (ragged,
            sparse). In `outputs` its parts are `name`, `name:1`, `name:2`.
    """

    graph_def: Any
    inputs: Mapping[str, tuple[str, tf.TensorSpec]]
    outputs: Mapping[str, tuple[str, tf.TensorSpec]]
    captures: Mapping[str, Any]
    composites: Mapping[str, Any] = field(default_factory=dict)

    @property
    def feeds(self) -> list[str]:
        """Every tensor that comes from outside: inputs, then captures."""
        return [tensor for tensor, _ in self.inputs.values()] + list(self.captures)

    @property
    def fetches(self) -> list[str]:
        """Every tensor that is an output."""
        return [tensor for tensor, _ in self.outputs.values()]

    def with_graph(self, graph_def: Any) -> "SignatureGraph":
        """Return the same signature over another graph; captures it no longer has are let go."""
        open_nodes = {node.name for node in graph_def.node if node.op == "Placeholder"}
        captures = {t: c for t, c in self.captures.items() if node_of(t) in open_nodes}
        return replace(self, graph_def=graph_def, captures=captures)

    def concrete(self) -> Any:
        """Return a ConcreteFunction of this signature; it captures what the graph captures."""
        body = _without(self.graph_def, {node_of(tensor) for tensor in self.feeds})
        _rename_functions(body)
        for called in body.library.function:
            context.context().add_function_def(called)  # importing tells it to the graph alone

        def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            graph = tf.compat.v1.get_default_graph()
            given = {tensor: inputs[name] for name, (tensor, _) in self.inputs.items()}
            given |= {t: graph.capture(_tensor_of(c)) for t, c in self.captures.items()}
            outputs = tf.graph_util.import_graph_def(
                body, input_map=given, return_elements=self.fetches, name=""
            )
            for output, (_, spec) in zip(outputs, self.outputs.values(), strict=True):
                output.set_shape(spec.shape)  # importing a graph forgets some
            return self._composed(dict(zip(self.outputs, outputs, strict=True)))

        specs = {name: _named(name, spec) for name, (_, spec) in self.inputs.items()}
        function = tf.function(call, autograph=False).get_concrete_function(**specs)
        # The freezer asks the graph for its variables; handles alone do not tell it.
        function.graph.variables = [
            capture for capture in self.captures.values() if isinstance(capture, tf.Variable)
        ]
        return function

    def _composed(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Put ragged and sparse outputs together again."""
        outputs = {n: part for n, part in parts.items() if n.split(_PART)[0] not in self.composites}
        for name, spec in self.composites.items():
            own = [part for n, part in parts.items() if n.split(_PART)[0] == name]
            outputs[name] = tf.nest.pack_sequence_as(spec, own, expand_composites=True)
        return outputs

    def frozen(self) -> "SignatureGraph":
        """Return the signature with its variables as constants; tables stay outside.

        `convert_variables_to_constants_v2` leaves a captured table as a placeholder and forgets
        what it stood for; the function it was given still says it.
        """
        function = self.concrete()
        constant = convert_variables_to_constants_v2(function, lower_control_flow=False)
        return _described(function, constant.graph.as_graph_def(), self.captures.values())

    def same_as(self, other: "SignatureGraph") -> bool:
        """Tell whether both compute the same from the same inputs and captures."""
        mine, others = self.captures, other.captures
        return (
            self.inputs == other.inputs
            and self.outputs == other.outputs
            and self.composites == other.composites
            and mine.keys() == others.keys()
            and all(mine[tensor] is others[tensor] for tensor in mine)
            and _bytes_of(self.graph_def) == _bytes_of(other.graph_def)
        )


@dataclass(frozen=True)
class GraphModel:
    """A SavedModel under optimisation.

    Attributes:
        signatures: The graphs that passes rewrite, by signature name.
        parser: Where the SavedModel has one, its function from serialized tf.Examples to the inputs
            of `serving_default`. Then `serving_examples` is made of both on saving, so that weights
            are stored once and not once a signature.
        assets: Files that the SavedModel carries; all are kept.
        aliases: Signatures that are another one under a second name, as Keras's `serve` is; they
            are written as such, so that weights are stored once.
    """

    signatures: Mapping[str, SignatureGraph]
    parser: Any
    assets: tuple[Any, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def lift(cls, path: Path) -> "GraphModel":
        """Read a SavedModel, each of its signatures as one flat graph.

        Raises:
            DataError: If it is not a SavedModel or has no signature.
        """
        module = load(path).module
        parser = getattr(module, EXAMPLES_PARSER, None)
        is_composed = parser is not None and {DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE} <= set(
            module.signatures
        )
        own = [n for n in module.signatures if not (is_composed and n == EXAMPLES_SIGNATURE)]
        trackables = TrackableView(module).descendants()
        lifted = {name: _lift(module.signatures[name], trackables) for name in own}
        aliases = _aliases(lifted)
        return cls(
            signatures={name: one for name, one in lifted.items() if name not in aliases},
            parser=parser if is_composed else None,
            assets=tuple(t for t in trackables if isinstance(t, Asset)),
            aliases=aliases,
        )

    def rewritten(self, rewrite: Callable[[SignatureGraph], SignatureGraph]) -> "GraphModel":
        """Return the model with every signature rewritten by itself."""
        signatures = {name: rewrite(signature) for name, signature in self.signatures.items()}
        return replace(self, signatures=signatures)

    def save(self, path: Path) -> None:
        """Write a SavedModel with the same signatures, tables and assets."""
        module = tf.Module()
        module.assets = list(self.assets)
        module.captured = [
            capture
            for signature in self.signatures.values()
            for capture in signature.captures.values()
            if not isinstance(capture, tf.Tensor)
        ]
        functions = {name: signature.concrete() for name, signature in self.signatures.items()}
        functions |= {name: functions[original] for name, original in self.aliases.items()}
        if self.parser is not None:
            setattr(module, EXAMPLES_PARSER, self.parser)
            functions[EXAMPLES_SIGNATURE] = _composed(self.parser, functions[DEFAULT_SIGNATURE])
        module.functions = functions
        tf.saved_model.save(module, str(path), signatures=functions)

    def operations(self) -> Counter[str]:
        """Count the nodes of all signatures by kind, those of loop and branch bodies too."""
        graphs = [signature.graph_def for signature in self.signatures.values()]
        bodies = [function.node_def for graph in graphs for function in graph.library.function]
        return Counter(node.op for nodes in [*(g.node for g in graphs), *bodies] for node in nodes)


def node_of(tensor: str) -> str:
    """Return the node that a graph's input string names: `x` of `x`, `x:1` and `^x`."""
    return tensor.removeprefix("^").split(":")[0]


def _lift(signature: Any, trackables: Iterable[Any]) -> SignatureGraph:
    """Flatten one signature of a loaded SavedModel."""
    specs = {name: _named(name, s) for name, s in signature.structured_input_signature[1].items()}
    function = tf.function(lambda **inputs: signature(**inputs)).get_concrete_function(**specs)
    keep = [tensor.name for tensor in [*function.inputs, *function.outputs]]
    graph_def = inline_calls(function.graph.as_graph_def(), keep)
    for node in graph_def.node:
        node.ClearField("experimental_debug_info")  # who called whom, in the original
    return _with_named_captures(_described(function, graph_def, trackables))


def _with_named_captures(signature: SignatureGraph) -> SignatureGraph:
    """Call the captures' placeholders by their place; TensorFlow calls them by a running number."""
    names = {node_of(tensor): f"captured_{n}" for n, tensor in enumerate(signature.captures)}
    for node in signature.graph_def.node:
        if node.name in names:
            node.name = names[node.name]
            node.attr.pop("_user_specified_name", None)
        for index, reference in enumerate(node.input):
            if (name := node_of(reference)) in names:
                node.input[index] = reference.replace(name, names[name], 1)
    captures = {f"{names[node_of(t)]}:0": thing for t, thing in signature.captures.items()}
    return replace(signature, captures=captures)


def _described(function: Any, graph_def: Any, holders: Iterable[Any]) -> SignatureGraph:
    """Return a graph as the signature of the function whose tensor names it still has.

    Args:
        function: A ConcreteFunction with keyword inputs and named outputs.
        graph_def: Its graph, rewritten.
        holders: Objects whose tensors the function may capture.
    """
    specs = dict(sorted(function.structured_input_signature[1].items()))
    outputs, composites = _flat_outputs(function.structured_outputs)
    by_tensor = {id(_tensor_of(holder)): holder for holder in holders if _is_holder(holder)}
    inputs, captured = function.inputs[: len(specs)], function.inputs[len(specs) :]
    return SignatureGraph(
        graph_def=graph_def,
        inputs={n: (t.name, spec) for (n, spec), t in zip(specs.items(), inputs, strict=True)},
        outputs={
            n: (t.name, tf.TensorSpec(t.shape, t.dtype, n))
            for n, t in zip(outputs, function.outputs, strict=True)
        },
        composites=composites,
        captures={
            inner.name: by_tensor.get(id(outer), outer)
            for inner, outer in zip(captured, function.captured_inputs, strict=True)
        },
    ).with_graph(graph_def)


def _flat_outputs(structured: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return a name for each output tensor in order, and the specs of ragged and sparse outputs."""
    names, composites = list[str](), dict[str, Any]()
    for name, spec in sorted(structured.items()):
        parts = tf.nest.flatten(spec, expand_composites=True)
        names += [name, *(f"{name}{_PART}{index}" for index in range(1, len(parts)))]
        if not isinstance(spec, tf.Tensor | tf.TensorSpec):
            composites[name] = spec if isinstance(spec, tf.TypeSpec) else spec._type_spec
    return names, composites


def _aliases(signatures: Mapping[str, SignatureGraph]) -> dict[str, str]:
    """Return which signatures are another one once more; `serving_default` keeps its own."""
    aliases: dict[str, str] = {}
    kept: list[str] = []
    for name in sorted(signatures, key=lambda name: name != DEFAULT_SIGNATURE):
        same = [other for other in kept if signatures[name].same_as(signatures[other])]
        if same:
            aliases[name] = same[0]
        else:
            kept.append(name)
    return aliases


def _bytes_of(graph_def: Any) -> bytes:
    content: bytes = graph_def.SerializeToString(deterministic=True)
    return content


def _composed(parser: Any, core: Any) -> Any:
    """Return the signature that parses serialized tf.Examples and then calls `core`."""

    def call(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(core(**parser(examples)))

    spec = tf.TensorSpec([None], tf.string, "examples")
    return tf.function(call, autograph=False).get_concrete_function(spec)


def _without(graph_def: Any, names: Collection[str]) -> Any:
    """Return the graph without some placeholders; nobody needs to wait for one either."""
    rest = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    rest.node.extend(node for node in graph_def.node if node.name not in names)
    for node in rest.node:
        inputs = [i for i in node.input if not (i.startswith("^") and i[1:] in names)]
        del node.input[:]
        node.input.extend(inputs)
    return rest


def _rename_functions(graph_def: Any) -> None:
    """Give loop and branch bodies new names: TensorFlow knows functions by name permanently."""
    names = {
        f.signature.name: f"{f.signature.name.split(_RENAMED)[0]}{_RENAMED}{ops.uid()}"
        for f in graph_def.library.function
    }
    for function in graph_def.library.function:
        function.signature.name = names[function.signature.name]
    bodies = [function.node_def for function in graph_def.library.function]
    for node in (node for nodes in [graph_def.node, *bodies] for node in nodes):
        node.op = names.get(node.op, node.op)
        for attribute in node.attr.values():
            for called in [attribute.func, *attribute.list.func]:
                if called.name:
                    called.name = names.get(called.name, called.name)


def _is_holder(thing: Any) -> bool:
    return isinstance(thing, tf.Variable | CapturableResource | Asset | tf.Tensor)


def _tensor_of(holder: Any) -> tf.Tensor:
    """Return the tensor by which a graph knows a variable, a table or an asset."""
    if isinstance(holder, tf.Variable):
        return holder.handle
    if isinstance(holder, CapturableResource):
        return holder.resource_handle
    return holder.asset_path if isinstance(holder, Asset) else holder


def _named(name: str, spec: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name)
