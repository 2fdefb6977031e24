"""Rows of a pipeline's eval split as both signatures of our SavedModels take them, with labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.data.raw_examples import Array, RawColumns, read_raw, read_serialized
from components.models.saved_models import list_fillers, wire_inputs
from components.optimize.chain import Data
from components.optimize.judging.judgement import Evaluation, Truth
from components.quality.metrics import metric_names
from components.quality.row_independence import row_tolerance
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE, output_name
from contract.schema.pipeline import PipelineConfig

_OWN_METRICS = {"regression": "rmse"}  # of a head whose metric is not given; else accuracy


def read_data(shards: Sequence[Path], config: PipelineConfig) -> Data:
    """Read the first rows of raw shards: `sample_rows` for both signatures, `eval_rows` to judge.

    Variable-length features are padded to the longest of the rows read.
    """
    settings = config.optimize
    columns = read_raw(shards, config, limit=max(settings.sample_rows, settings.eval_rows))
    inputs = wire_inputs(columns.features, config)
    samples = {
        DEFAULT_SIGNATURE: {
            name: column[: settings.sample_rows] for name, column in inputs.items()
        },
        EXAMPLES_SIGNATURE: {"examples": _serialized(shards, settings.sample_rows)},
    }
    judged = {name: column[: settings.eval_rows] for name, column in inputs.items()}
    truths = _truths(columns, config, settings.eval_rows)
    evaluation = Evaluation(DEFAULT_SIGNATURE, judged, truths)
    return Data(samples, evaluation, list_fillers(config), row_tolerance(config))


def _serialized(shards: Sequence[Path], rows: int) -> Array:
    examples: list[bytes] = []
    for batch in read_serialized(shards):
        examples += batch
        if len(examples) >= rows:
            break
    return np.array(examples[:rows], object)


def _truths(columns: RawColumns, config: PipelineConfig, rows: int) -> tuple[Truth, ...]:
    """Return what is known of each head; the one that `bless` decides by comes first.

    It is judged by `bless.metric`; other heads, and one whose metric is the user's own function,
    by accuracy, or for regression the root mean squared error.
    """
    heads = sorted(config.heads, key=lambda head: head != config.blessing_head)
    weights = columns.weights if columns.weights is not None else np.ones(len(columns), np.float32)
    truths = []
    for head in heads:
        task = config.heads[head].task
        name = config.bless.metric
        if head != config.blessing_head or name not in metric_names(config, head, {}):
            name = _OWN_METRICS.get(task, "accuracy")
        labels = columns.labels[head][:rows]
        truths.append(Truth(output_name(head, config.heads), task, name, labels, weights[:rows]))
    return tuple(truths)
