"""What a SavedModel says of the test part: raw rows through both of its signatures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.metrics import Answers
from components.raw_examples import Array, RawColumns, read_raw, read_serialized
from components.saved_models import load, predict_columns, predict_examples
from contract.errors import DataError
from contract.schema import PipelineConfig

# Both signatures hold the same graph; batches of another width may round otherwise.
_SIGNATURE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class TestPart:
    """The test part in memory, as columns and as the tf.Examples that they came from."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    columns: RawColumns
    examples: Sequence[bytes]

    @classmethod
    def read(cls, shards: Sequence[Path], config: PipelineConfig) -> "TestPart":
        """Read raw shards.

        Raises:
            DataError: If they hold no rows.
        """
        columns = read_raw(shards, config)
        if not len(columns):
            raise DataError(
                f"run part 'test' has no rows ({len(shards)} shards): nothing to judge a model on; "
                "look at ingest.split.test and ingest.test_source"
            )
        return cls(columns, [example for batch in read_serialized(shards) for example in batch])

    @property
    def weights(self) -> Array:
        """Example weights, float32 `[rows]`; ones where the data has none."""
        given = self.columns.weights
        return np.ones(len(self.columns), np.float32) if given is None else given


def ask(path: Path, test: TestPart, config: PipelineConfig) -> dict[str, Answers]:
    """Return a SavedModel's answers to the test part by head, from `serving_default`.

    Raises:
        DataError: If `serving_examples` answers otherwise than `serving_default`.
    """
    model = load(path)
    by_columns = predict_columns(model, test.columns, config)
    by_examples = predict_examples(model, test.examples, config)
    for head, scores in by_columns.items():
        difference = _difference(scores, by_examples[head])
        if not difference <= _SIGNATURE_TOLERANCE:
            raise DataError(
                f"{path}: head '{head}': the signatures serving_default and serving_examples "
                f"differ by {difference:.3g} on the same rows, expected at most "
                f"{_SIGNATURE_TOLERANCE:g}"
            )
    return {
        head: Answers(test.columns.labels[head], scores, test.weights)
        for head, scores in by_columns.items()
    }


def _difference(left: Array, right: Array) -> float:
    """Return the largest difference, absolute below 1 and relative above; NaN equals NaN."""
    if np.array_equal(left, right, equal_nan=True):
        return 0.0
    scale = np.maximum(np.abs(left), 1.0)
    return float(np.max(np.abs(left.astype(np.float64) - right) / scale))
