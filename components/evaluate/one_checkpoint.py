"""Judging one checkpoint: the eval split through the model once, then every figure in NumPy."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.data.examples import ExampleSource, as_batch, slices_of
from components.evaluate.labels import check_labels, load_labelled
from components.models.model_hooks import MODEL_FILE, custom_metrics
from components.models.user_code import user_code
from components.models.user_model import build_model
from components.quality.curves import curves_of
from components.quality.metrics import Answers, Custom, measure, measure_own
from components.quality.model_rows import scores_function, telling_rows_of
from components.quality.squashed_twice import are_squashed_twice, in_words
from contract.records.evaluation import Curves, Metric
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")

Metrics = dict[str, dict[str, Metric]]  # by head, then metric


@dataclass(frozen=True)
class CheckpointMetrics:
    """What a model is worth on the eval split; `slices` by `feature=value`."""

    examples: int
    metrics: Metrics
    slices: dict[str, Metrics]
    curves: dict[str, Curves]


class CheckpointJudge:
    """Holds the eval split and one compiled model, into which each checkpoint is loaded in turn.

    The eval split stays in memory: it is a small share of the data, and read again every time it
    would cost more than the model.
    """

    def __init__(
        self,
        config: PipelineConfig,
        frozen_folder: Path,
        transform_graph: Path,
        source: ExampleSource,
    ) -> None:
        columns = load_labelled(source, config)
        with tf.device("CPU"):
            everything = as_batch(columns)
        self.model: keras.Model = build_model(config, frozen_folder, transform_graph)
        self.custom: Custom = custom_metrics(frozen_folder, config)
        features = {name: columns[name] for name in everything.features}
        self.rows = telling_rows_of(features)
        self.features = {name: column[:1] for name, column in features.items()}  # what they are
        self.scores_of = scores_function(self.model, config, self.features)
        self._config = config
        self._batches = tf.data.Dataset.from_tensor_slices(everything).batch(
            config.evaluate.batch_size
        )
        self._labels = {head: label.numpy() for head, label in everything.labels.items()}
        check_labels(self._labels, config, source)
        self._weights = everything.weights.numpy()
        self._slices = _rows_by_slice({k: v.numpy() for k, v in slices_of(columns).items()})

    def judge(self) -> CheckpointMetrics:
        """Judge the model with the weights that it has now.

        Raises:
            UserCodeError: If the model or a metric of the user raises.
        """
        with user_code("evaluate: the model"):
            parts = [self.scores_of(batch.features) for batch in self._batches]
        answers = {
            head: Answers(
                self._labels[head],
                np.concatenate([part[head].numpy() for part in parts]),
                self._weights,
            )
            for head in self._config.heads
        }
        for head, answer in answers.items():
            if are_squashed_twice(task := self._config.heads[head].task, answer.scores):
                log.warning("evaluate: %s", in_words(head, task))
        slices = {
            name: {head: self._measure(head, a.at(rows)) for head, a in answers.items()}
            for name, rows in self._slices.items()
        }
        metrics = {head: self._measure(head, a) for head, a in answers.items()}
        curves = {h: curves_of(self._config.heads[h].task, a) for h, a in answers.items()}
        return CheckpointMetrics(len(self._weights), metrics, slices, curves)

    def _measure(self, head: str, answers: Answers) -> dict[str, Metric]:
        confidence = self._config.evaluate.confidence
        measured = measure(self._config.heads[head].task, answers, confidence)
        if own := self.custom.get(head):
            with user_code(f"{MODEL_FILE}: metrics of head '{head}'"):
                measured |= measure_own(own, answers, confidence)
        return measured


def _rows_by_slice(
    columns: Mapping[str, npt.NDArray[np.object_]],
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rows of each `feature=value`, in the values' order."""
    return {
        f"{feature}={value.decode(errors='replace')}": np.flatnonzero(values == value)
        for feature, values in columns.items()
        for value in sorted(set(values.tolist()))
    }
