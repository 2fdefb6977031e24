"""Summaries for TensorBoard: figures at their steps, histograms of the weights if asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf


class Summaries:
    """Writes event files into one folder; a retry adds another file."""

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures at a step."""
        with self._writer.as_default(step=step):
            for name, value in figures.items():
                tf.summary.scalar(name, value)

    def histograms(self, step: int, variables: Sequence[Any]) -> None:
        """Write the distribution of each variable's values at a step."""
        with self._writer.as_default(step=step):
            for variable in variables:
                tf.summary.histogram(variable.path, tf.convert_to_tensor(variable))

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()
