"""What requests hold, as arrays and as serialized tf.Examples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from grpc import StatusCode

from contract.wire.tensors import array_of, filled_bytes
from serving.server.grpc.statuses import CallError
from serving.server.requests.errors import SHOWN_CHARACTERS
from serving.standalone.limits import MOST_COPIED_BYTES

Array = np.ndarray[Any, Any]

_MOST_BYTES = (1 << 31) - 1


def arrays_of(
    inputs: Mapping[str, Any], most_copied_bytes: int = MOST_COPIED_BYTES
) -> dict[str, Array]:
    """Return tensors of a message as arrays.

    Raises:
        CallError: If one is broken, or they are too large for the values that are sent.
    """
    if (size := filled(inputs)) > most_copied_bytes:
        raise CallError(
            StatusCode.INVALID_ARGUMENT,
            f"inputs: single values stand for {size} bytes of the tensors, expected at most "
            f"{most_copied_bytes}; send all values",
        )
    found = {}
    for name, tensor in inputs.items():
        try:
            found[name] = array_of(tensor, _MOST_BYTES)
        except ValueError as error:
            raise CallError(
                StatusCode.INVALID_ARGUMENT, f"inputs.{name[:SHOWN_CHARACTERS]}: {error}"
            ) from error
    return found


def filled(inputs: Mapping[str, Any]) -> int:
    """Return how many bytes arrays of these tensors have beyond what is sent."""
    return sum(map(filled_bytes, inputs.values()))


def copied(given: Any) -> int:
    """Return how many bytes the copies of an Input's context have beyond the one that is sent."""
    if given.WhichOneof("kind") != "example_list_with_context":
        return 0
    held = given.example_list_with_context
    return int(held.context.ByteSize()) * max(0, len(held.examples) - 1)


def examples_of(given: Any, most_copied_bytes: int = MOST_COPIED_BYTES) -> list[bytes]:
    """Return the serialized examples of an Input, each behind the features of the context.

    Raises:
        CallError: If copies of the context would be too large together.
    """
    if given.WhichOneof("kind") != "example_list_with_context":
        return [one.SerializeToString() for one in given.example_list.examples]
    held = given.example_list_with_context
    context = held.context.SerializeToString()
    check_copies(len(context), len(held.examples), most_copied_bytes)
    return [context + one.SerializeToString() for one in held.examples]


def count_of(given: Any) -> int:
    """Return how many examples an Input has."""
    kind = given.WhichOneof("kind")
    return len(getattr(given, kind).examples) if kind else 0


def check_copies(context_bytes: int, examples: int, most_bytes: int = MOST_COPIED_BYTES) -> None:
    """Refuse a context whose copies, one for each example, would be too large together.

    Raises:
        CallError: If they would.
    """
    if context_bytes * max(0, examples - 1) > most_bytes:
        raise CallError(
            StatusCode.INVALID_ARGUMENT,
            f"context: {context_bytes} bytes for each of {examples} examples, expected at most "
            f"{most_bytes} bytes of copies; send fewer examples",
        )
