"""A numeric core behind a front, as a `ServedModel`.

The front is what only TensorFlow can compute (text, tables, ragged rows). Where the core takes all
inputs as callers send them, there is no front, and the process does not import TensorFlow.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from contract.feature_names import legal_names
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE
from contract.records.optimization import EngineFiles, TensorDescription
from contract.records.package import InputSpec
from serving.server.engines.dense_engine import open_engine
from serving.server.engines.engine import (
    Columns,
    Outputs,
    RefusedInputError,
    ServedModel,
    Signature,
    TensorInfo,
)
from serving.server.engines.examples import ExamplesParser


class SplitModel:
    """What a folder with `engine.json` holds."""

    def __init__(
        self, folder: Path, inputs: Mapping[str, InputSpec], concurrent_calls: int
    ) -> None:
        """Load core and front.

        Args:
            folder: The engine's.
            inputs: Of `serving_default` by callers' names, which `serving_examples` is parsed by.
            concurrent_calls: How many threads will call at once.

        Raises:
            DataError: If a file is missing or broken, or an engine does not take it.
        """
        files = EngineFiles.of_folder(folder)
        self._engine = open_engine(folder, files, concurrent_calls)
        self._front = _front(folder / files.front) if files.front else None
        self._core_inputs, self._index_limits = files.core_inputs, files.index_limits
        self._outputs = tuple(tensor.name for tensor in files.outputs)
        self._parse, self._legal = ExamplesParser(inputs), legal_names(inputs)
        outputs = _named(files.outputs)
        examples = {"examples": TensorInfo("examples", "string", (None,))}
        self._signatures = {
            DEFAULT_SIGNATURE: Signature(_named(files.inputs), outputs),
            EXAMPLES_SIGNATURE: Signature(examples, outputs),
        }

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    def call(self, signature: str, columns: Columns) -> Outputs:
        if signature == EXAMPLES_SIGNATURE:
            parsed = self._parse(columns["examples"])
            columns = {self._legal[name]: column for name, column in parsed.items()}
        given = dict(columns)
        if self._front is not None:
            given |= self._front.call(DEFAULT_SIGNATURE, columns)
        for name, limits in self._index_limits.items():
            _check_indices(given[name], *limits)
        found = self._engine.run({name: given[name] for name in self._core_inputs})
        return {name: found[name] if name in found else given[name] for name in self._outputs}


def _check_indices(values: np.ndarray, least: int, largest: int) -> None:
    """Refuse what a table has no row for; an engine may answer something there."""
    if values.size and (values.min() < least or values.max() > largest):
        wrong = np.ravel(values)[np.ravel((values < least) | (values > largest))][0]
        raise RefusedInputError(f"index {wrong} is not in [{least}, {largest}]")


def _front(path: Path) -> ServedModel:
    # Here, so that a model without a front needs no TensorFlow.
    from serving.server.engines.tensorflow_engine import TensorFlowModel

    return TensorFlowModel(path)


def _named(tensors: Iterable[TensorDescription]) -> dict[str, TensorInfo]:
    return {t.name: TensorInfo(t.name, t.dtype, t.shape) for t in tensors}
