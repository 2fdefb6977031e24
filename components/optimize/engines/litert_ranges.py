"""A core rewritten so that LiteRT's float32 kernels stay where they compute what TensorFlow does.

Measured with LiteRT 2.1 on AVX-512: its sigmoid is NaN for magnitudes between about 1e28 and 1e37,
though not for infinity, and its softplus, `log(1 + exp(x))`, is infinite from 89 upwards.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from components.optimize.graph.editing import GraphEdit, attribute
from components.optimize.graph.graphs import SignatureGraph

# In float32 a sigmoid is 0 or 1 far before this, so answers stay what they are.
_SATURATED = np.float32(1000.0)
_FLOAT32 = tf.float32.as_datatype_enum


def in_litert_range(core: SignatureGraph) -> SignatureGraph:
    """Return the core with bounded inputs of sigmoids and with softplus that does not overflow.

    A NaN stays NaN. Bodies of loops and branches are left as they are.
    """
    edit = GraphEdit(core)
    for node in edit.of_kind("Sigmoid", "Softplus"):
        if attribute(node, "T").type != _FLOAT32:
            continue
        if node.op == "Sigmoid":
            node.input[0] = _bounded(edit, node)
        else:
            _turn_softplus(edit, node)
    return edit.result()


def _bounded(edit: GraphEdit, node: Any) -> str:
    """Return the name of a node that clips a sigmoid's input."""
    least = edit.add_constant(f"{node.name}/least", -_SATURATED)
    most = edit.add_constant(f"{node.name}/most", _SATURATED)
    above = edit.add("Maximum", f"{node.name}/above", [node.input[0], least], T=tf.float32)
    return edit.add("Minimum", f"{node.name}/bounded", [above, most], T=tf.float32)


def _turn_softplus(edit: GraphEdit, node: Any) -> None:
    """Make `max(x, 0) + log(1 + exp(-|x|))` of a softplus, which is equal and never overflows."""

    def add(op: str, *inputs: str) -> str:
        return edit.add(op, f"{node.name}/{op.lower()}", inputs, T=tf.float32)

    given, one = node.input[0], edit.add_constant(f"{node.name}/one", np.float32(1.0))
    small = add("Exp", add("Neg", add("Abs", given)))
    rest = add("Log", add("AddV2", one, small))
    edit.turn(node, "AddV2", [add("Relu", given), rest], T=tf.float32)
