"""The first checkpoint that a process judges: do its answers depend on one row alone each?"""

import logging
import time
from pathlib import Path

import tensorflow as tf

from components.evaluate.one_checkpoint import CheckpointJudge
from components.models import checkpoints
from components.models.model_hooks import MODEL_FILE
from components.models.user_code import user_code
from components.models.user_model import build_model
from components.quality.model_rows import model_subject, scores_function
from components.quality.row_dependence import in_words
from components.quality.row_independence import TOLERANCE, Limits, Subject, find_dependence
from contract.layout import RunLayout
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")


class RowCheck:
    """Tries the judge's model, once, on real rows of the eval split."""

    def __init__(
        self, config: PipelineConfig, run: RunLayout, graph: Path, judge: CheckpointJudge
    ) -> None:
        self._config, self._run, self._graph, self._judge = config, run, graph, judge
        self._is_done = False

    def problem(self, step: int) -> str:
        """Say what is wrong with the model, whose weights are of this step; empty: nothing.

        Only the first call looks. A difference may be as large as a package's skew, at least.

        Raises:
            UserCodeError: If the model raises.
        """
        if self._is_done:
            return ""
        started, config = time.monotonic(), self._config
        limits = Limits(max(TOLERANCE, config.package.skew_tolerance))
        with user_code("evaluate: the model"):
            found = find_dependence(self._subject(step), self._judge.rows, limits)
        if found is not None:
            sentence = in_words(found, f"head '{found.output}'")
            return f"{MODEL_FILE}: {sentence}"
        self._is_done = True
        log.info(
            "evaluate: answers to %d rows depend on each row alone, tried in %.2f s",
            *(len(self._judge.rows), time.monotonic() - started),
        )
        return ""

    def _subject(self, step: int) -> Subject:
        """Return the model in float32: sums in 16 bits differ with the size of the batch."""
        train, judge = self._config.train, self._judge
        lists = frozenset(n for n, c in judge.features.items() if isinstance(c, tf.RaggedTensor))
        if train.precision == "float32":
            return model_subject(judge.model, judge.scores_of, lists)
        exact = train.model_copy(update={"precision": "float32"})
        config = self._config.model_copy(update={"train": exact})
        model = build_model(config, self._run.frozen_pipeline, self._graph)
        checkpoints.load_weights(model, self._run, step)
        return model_subject(model, scores_function(model, config, judge.features), lists)
