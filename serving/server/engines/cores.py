"""What all engines need: the places of a core's tensors, and how many threads a call gets."""

import os
from collections.abc import Mapping

# A machine runs a stable server, a canary, a shadow and Envoy side by side; each gets its share. On
# 2 cores, a second thread cost a convnet's batch of 64 a tenth more CPU, an MLP's up to a fifth.
_SERVERS_PER_MACHINE = 4


def threads_per_call() -> int:
    """Return how many cores one call of a model may use."""
    return max(1, len(os.sched_getaffinity(0)) // _SERVERS_PER_MACHINE)


def indexes(found: Mapping[str, int], wanted: tuple[str, ...]) -> dict[str, int]:
    """Return the place of each wanted tensor in an engine's file.

    Raises:
        ValueError: If the file does not have one of them.
    """
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"has the tensors {sorted(found)}, expected also {missing}")
    return {name: found[name] for name in wanted}
