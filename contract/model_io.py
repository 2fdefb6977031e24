"""A model's outside: what its signatures, inputs, outputs and example columns are called.

What makes a model, what serves it and what asks it must agree on these. Names of features where
TensorFlow wants identifiers are in `contract.feature_names`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

DEFAULT_SIGNATURE = "serving_default"  # raw features, a tensor each; TensorFlow Serving's default
EXAMPLES_SIGNATURE = "serving_examples"  # the same rows as serialised tf.Examples

# NumPy's name of each dtype that a raw feature or an input may have; text is bytes objects.
NUMPY_DTYPES: Mapping[str, str] = MappingProxyType(
    {"float32": "float32", "int64": "int64", "string": "object"}
)

# Columns of examples that are not features.
EXAMPLE_ID = "example_id"
LABEL_PREFIX = "label:"
SLICE_PREFIX = "slice:"
SPLIT_PREFIX = "split:"


class Head(Protocol):
    """What of a head decides how its output is called."""

    @property
    def task(self) -> str: ...


def label_key(head: str) -> str:
    """Return the column of an example that holds a head's label."""
    return f"{LABEL_PREFIX}{head}"


def slice_key(feature: str) -> str:
    """Return the column of an example that holds a slicing feature's raw value as text."""
    return f"{SLICE_PREFIX}{feature}"


def output_names(heads: Mapping[str, Head]) -> dict[str, str]:
    """Return each head's output in the signatures: `scores` or `value`, `<head>_...` if several."""
    return {
        name: ("" if len(heads) == 1 else f"{name}_")
        + ("value" if head.task == "regression" else "scores")
        for name, head in heads.items()
    }


def output_name(head: str, heads: Mapping[str, Head]) -> str:
    """Return one head's output; see `output_names`."""
    return output_names(heads)[head]
