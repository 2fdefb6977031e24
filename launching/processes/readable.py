"""Waiting for descriptors, of any number: `select.select` takes none above 1,023."""

import select
from collections.abc import Iterable


def readable(descriptors: Iterable[int], seconds: float) -> list[int]:
    """Return the descriptors that can be read, or whose other end is closed, within a time.

    Args:
        descriptors: What to wait for; without any it waits for the whole time.
        seconds: The time to wait at most; 0 does not wait.
    """
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in waiting.poll(seconds * 1000)]
