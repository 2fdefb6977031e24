"""What a model engine must offer to be served. TensorFlow's is in `tensorflow_runtime`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Columns = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]

DEFAULT_SIGNATURE = "serving_default"
EXAMPLES_SIGNATURE = "serving_examples"


@dataclass(frozen=True)
class TensorInfo:
    """A named tensor of a signature. `shape` begins with the batch; None is any size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """What one entry point of a model takes and gives, by the caller's names."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


class RefusedInputError(ValueError):
    """The model itself refused the values of a row: the caller's error, not the server's."""


class Runtime(Protocol):
    """A loaded model. `call` may be used from several threads at once."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Every entry point by name."""

    def call(self, signature: str, columns: Columns) -> Outputs:
        """Run one batch: arrays `[rows, ...]` by input name to arrays `[rows, ...]` by output name.

        Strings are object arrays of bytes.

        Raises:
            RefusedInputError: If the graph refuses a value of some row.
        """
