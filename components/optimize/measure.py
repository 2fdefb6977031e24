"""Size and speed of a SavedModel as the ledger reports them."""

import statistics
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from components.raw_examples import Array
from components.saved_models import RAW_SIGNATURE, LoadedModel

_WARM_UP_CALLS = 5
_CALLS = 50
_LONGEST_SECONDS = 1.0


def latency_ms(model: LoadedModel, samples: Mapping[str, Mapping[str, Array]], batch: int) -> float:
    """Return the median milliseconds of one call with `batch` rows, after a warm-up.

    The signature is `serving_default`, or the first where there is none of that name. Sample rows
    are repeated where they are too few. At most 50 calls or one second, at least one call.
    """
    names = list(model.module.signatures)
    name = RAW_SIGNATURE if RAW_SIGNATURE in names else names[0]
    inputs = {
        k: tf.constant(v[np.arange(batch) % len(v)], model.input_specs(name)[k].dtype)
        for k, v in samples[name].items()
    }
    signature = model.signature(name)
    for _ in range(_WARM_UP_CALLS):
        signature(**inputs)
    seconds: list[float] = []
    while len(seconds) < _CALLS and sum(seconds) < _LONGEST_SECONDS:
        started = time.perf_counter()
        signature(**inputs)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000
