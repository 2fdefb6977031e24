"""Size and speed of a SavedModel as the ledger reports them."""

import statistics
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.models.saved_models import LoadedModel
from components.optimize.judging.batches import Samples, feed, row_count
from contract.model_io import DEFAULT_SIGNATURE

_WARM_UP_CALLS = 5
_CALLS = 50
_LONGEST_SECONDS = 1.0
_DEFLATE_LEVEL = 6

Call = Callable[..., Mapping[str, Any]]


def main_signature(names: Mapping[str, Any]) -> str:
    """Return the signature that is measured: `serving_default`, else the first."""
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in names else next(iter(names))


def latency_ms(model: LoadedModel, samples: Samples, batch: int) -> float:
    """Return the median milliseconds of one call with `batch` rows, after a warm-up.

    Sample rows are repeated where they are too few. At most 50 calls or one second, at least one.
    """
    return latencies_ms([model], samples, batch)[0]


def latencies_ms(models: list[LoadedModel], samples: Samples, batch: int) -> list[float]:
    """Return each model's median milliseconds of one call, measured in turns.

    So whatever else the machine does meanwhile slows all of them alike.
    """
    name = main_signature(models[0].module.signatures)
    inputs = samples[name]
    given = feed(inputs, np.arange(batch) % max(1, row_count(inputs)))
    calls: list[Call] = [model.signature(name) for model in models]
    for call in calls * _WARM_UP_CALLS:
        call(**given)
    seconds: list[list[float]] = [[] for _ in calls]
    while len(seconds[0]) < _CALLS and sum(map(sum, seconds)) < _LONGEST_SECONDS * len(calls):
        for call, taken in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call(**given)
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) * 1000 for taken in seconds]


def compressed_bytes(folder: Path) -> int:
    """Return the size of all files of a folder in one DEFLATE stream (zlib, level 6)."""
    stream, size = zlib.compressobj(_DEFLATE_LEVEL), 0
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        size += len(stream.compress(file.read_bytes()))
    return size + len(stream.flush())
