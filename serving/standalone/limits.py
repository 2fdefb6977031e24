"""How much one request may ask for, before work is spent on it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.server.requests.errors import SHOWN_CHARACTERS, TooLargeError

Array = np.ndarray[Any, Any]

# Of what a request does not hold itself: elements that one value of a tensor stands for, or copies
# of a context. A message of 24 bytes could otherwise take all memory.
MOST_COPIED_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """Of one request.

    Attributes:
        examples: Most tf.Examples.
        cells: Most values of an input whose rows may have any size: a model's memory grows with
            them, or with their square.
        copied_bytes: Most bytes that the request does not hold itself.
    """

    examples: int = sys.maxsize
    cells: int = sys.maxsize
    copied_bytes: int = MOST_COPIED_BYTES

    def check_examples(self, count: int) -> None:
        """Refuse too many examples.

        Raises:
            TooLargeError: If there are.
        """
        if count > self.examples:
            raise TooLargeError(
                f"found {count:,} examples, at most {self.examples:,} are accepted in a request "
                "(serve.max_batch_size x serve.max_enqueued_batches); send several"
            )

    def check_arrays(self, signature: Any, arrays: Mapping[str, Array]) -> None:
        """Refuse arrays of too many values where a signature takes rows of any size.

        Raises:
            TooLargeError: If one has too many.
        """
        for name, array in arrays.items():
            if array.size <= self.cells or name not in signature.inputs:
                continue
            if _cells(signature.inputs[name].tensor_shape, array) > self.cells:
                raise TooLargeError(
                    f"inputs.{name[:SHOWN_CHARACTERS]}: found shape {list(array.shape)}, at most "
                    f"{self.cells:,} values are accepted in rows that may have any size "
                    "(serve.max_cells); send shorter rows, or fewer"
                )


def _cells(shape: Any, array: Array) -> int:
    """Return rows times the sizes that the signature leaves open; 0 if it leaves none open."""
    if shape.unknown_rank:
        return array.size
    open_sizes = [
        size for axis, size in zip(shape.dim[1:], array.shape[1:], strict=False) if axis.size < 0
    ]
    return len(array) * int(np.prod(open_sizes, dtype=object)) if open_sizes else 0
