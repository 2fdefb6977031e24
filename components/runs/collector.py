"""Garbage collection in component processes: rare, and never of what is there at the start.

Python's collector looks for objects that refer to each other and to which nothing else refers.
By default it runs after every 700 new containers, and in a component it finds almost nothing: an
import makes hundreds of thousands of containers that stay, and record batches are freed by their
reference counts. Measured with `ingest` of 250,000 rows, medians of three: 11.1 CPU seconds by
default, 9.1 with these thresholds, 8.5 with the collector off; the peak of memory was 901, 903 and
912 MiB. `tests/benchmarks/bench_collector.py` measures it again.

It stays on, because users' code may make reference cycles: what they can hold before it is freed
is bounded by `YOUNG`, and a full collection still comes when the old objects have grown by a
quarter (CPython's own rule).
"""

import gc

YOUNG = 20_000  # containers; 100,000 saves no more CPU, and lets five times the garbage wait
MIDDLE = 20  # collections of the young between two of the middle generation
OLD = 10  # CPython's default


def collect_rarely() -> None:
    """Make collections rare in this process, and let them ignore all objects that exist now.

    In a process that was forked, these are its parent's: an examination would also copy their
    pages.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
