"""What a SavedModel says of the test split: raw rows through both of its signatures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.data.raw_examples import RawColumns, read_rows
from components.models.answer_differences import largest_difference
from components.models.saved_models import LoadedModel, load, predict_columns, predict_examples
from components.quality.metrics import Answers
from contract.errors import DataError
from contract.schema.pipeline import PipelineConfig

# Both signatures hold the same graph; batches of another width may round otherwise.
_SIGNATURE_TOLERANCE = 1e-5
_GRAPH_TALK = ("Graph execution error", "Detected at node", "[[{{node", "File ", "Traceback")
_LONGEST = 300


@dataclass(frozen=True)
class TestSplit:
    """The test split on storage; some thousand rows of it at once are in memory."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    shards: tuple[Path, ...]
    config: PipelineConfig

    @classmethod
    def find(cls, shards: Sequence[Path], config: PipelineConfig) -> "TestSplit":
        """Return raw shards as a test split.

        Raises:
            DataError: If they hold no rows.
        """
        part = cls(tuple(shards), config)
        if not any(len(columns) for columns, _ in part.batches()):
            raise DataError(
                f"the run's split 'test' has no rows ({len(shards)} shards): a model cannot be "
                "judged; check ingest.split.test and ingest.test_source"
            )
        return part

    def batches(self) -> Iterator[tuple[RawColumns, list[bytes]]]:
        """Yield the rows in order, as columns and as the tf.Examples that they came from."""
        return read_rows(self.shards, self.config)


def ask(path: Path, test: TestSplit) -> dict[str, Answers]:
    """Return a SavedModel's answers to the test split by head, from `serving_default`.

    Of the rows nothing is kept but labels, weights (ones where the data has none) and answers.

    Raises:
        DataError: If `serving_examples` answers otherwise than `serving_default`.
    """
    model = load(path)
    parts = [_ask(model, columns, examples, test.config) for columns, examples in test.batches()]
    return {
        head: Answers(
            np.concatenate([part[head].labels for part in parts]),
            np.concatenate([part[head].scores for part in parts]),
            np.concatenate([part[head].weights for part in parts]),
        )
        for head in test.config.heads
    }


def ask_earlier(path: Path, test: TestSplit) -> dict[str, Answers] | str:
    """Return what an earlier version answers, as `ask` does, or why it cannot answer these rows.

    It was good when it was deployed; that its files are gone, or that it fails on a row of today,
    is not a fault of the candidate.
    """
    try:
        return ask(path, test)
    except DataError as error:
        return str(error)
    except tf.errors.OpError as error:
        return f"{path}: {_said_of(error)}"


def _said_of(error: Exception) -> str:
    """Return the line of a failure in a graph that says what failed; above it stands where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_GRAPH_TALK)]
    return (lines or [type(error).__name__])[-1][:_LONGEST]


def _ask(
    model: LoadedModel, columns: RawColumns, examples: list[bytes], config: PipelineConfig
) -> dict[str, Answers]:
    by_columns = predict_columns(model, columns, config)
    by_examples = predict_examples(model, examples, config)
    for head, scores in by_columns.items():
        difference = largest_difference(scores, by_examples[head])
        if not difference <= _SIGNATURE_TOLERANCE:
            raise DataError(
                f"{model.path}: head '{head}': the signatures serving_default and serving_examples "
                f"differ by {difference:.3g} on the same rows, expected at most "
                f"{_SIGNATURE_TOLERANCE:g}"
            )
    given = columns.weights
    weights = np.ones(len(columns), np.float32) if given is None else given
    return {
        head: Answers(columns.labels[head], scores, weights) for head, scores in by_columns.items()
    }
