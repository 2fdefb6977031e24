"""The truth that checkpoints are judged by: an eval split without labels is refused, by shard."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from components.data.examples import Columns, ExampleSource, load_columns
from components.data.raw_examples import Array
from contract.errors import DataError
from contract.model_io import label_key
from contract.schema.pipeline import PipelineConfig


def load_labelled(source: ExampleSource, config: PipelineConfig) -> Columns:
    """Parse all examples of the eval split.

    Raises:
        DataError: If a shard is broken, or an example has no label; it names shard and head.
    """
    try:
        return load_columns(source)
    except DataError as error:
        if problem := _unlabelled(source, config):
            raise DataError(problem) from error
        raise


def check_labels(
    labels: Mapping[str, Array], config: PipelineConfig, source: ExampleSource
) -> None:
    """Refuse labels that no answer could be right about: no such class, or not finite.

    Raises:
        DataError: With the head, the number of such labels, and the first.
    """
    for name, head in config.heads.items():
        values, expected = labels[name], "expected finite numbers"
        if head.task == "regression":
            is_bad = ~np.isfinite(values)
        else:
            is_bad = (values < 0) | (values >= len(head.classes))
            expected = f"expected class indices from 0 to {len(head.classes) - 1}"
        if is_bad.any():
            raise DataError(
                f"{source.shards[0].parent}: split 'eval': head '{name}': {int(is_bad.sum())} of "
                f"{len(values)} labels are invalid, the first is {values[is_bad][0]}; {expected}. "
                "Check the labels of the data, and run 'ingest' again"
            )


def _unlabelled(source: ExampleSource, config: PipelineConfig) -> str:
    """Say which shard's which example lacks which label; empty if none does, or none is readable.

    Reads record by record; called when parsing has failed already.
    """
    wanted = {label_key(head): head for head in config.heads}
    for shard in source.shards:
        records = source.records(str(shard))
        try:
            for number, record in enumerate(records.as_numpy_iterator(), start=1):
                found = tf.train.Example.FromString(record).features.feature
                for key in wanted.keys() - found.keys():
                    return (
                        f"{shard}: example {number} has no label of head '{wanted[key]}' ('{key}'):"
                        " a checkpoint cannot be judged. Check the label column of the data, "
                        "and run 'ingest' again"
                    )
        except tf.errors.OpError:
            return ""
    return ""
