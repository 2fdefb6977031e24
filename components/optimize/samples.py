"""Raw rows as both signatures of our SavedModels take them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.optimize.gate import Samples
from components.raw_examples import read_raw, read_serialized
from components.saved_models import EXAMPLES_SIGNATURE, RAW_SIGNATURE, wire_inputs
from contract.schema import PipelineConfig


def read_samples(shards: Sequence[Path], config: PipelineConfig, rows: int) -> Samples:
    """Read the first rows of raw shards, as columns and as serialized tf.Examples."""
    columns = read_raw(shards, config, limit=rows)
    examples = [example for batch in read_serialized(shards) for example in batch][:rows]
    return {
        RAW_SIGNATURE: wire_inputs(columns.features, config),
        EXAMPLES_SIGNATURE: {"examples": np.array(examples, object)},
    }
