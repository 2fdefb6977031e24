"""An optimised SavedModel in its two parts on disk, with rows to calibrate and check by."""

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.data.raw_examples import Array
from components.models.saved_models import load
from components.optimize.engines.cut import cut
from components.optimize.engines.index_limits import index_limits
from components.optimize.graph.graphs import GraphModel, SignatureGraph
from components.optimize.passes.stateful_variables import live_variables
from contract.errors import DataError
from contract.layout import ENGINE_FILES
from contract.model_io import DEFAULT_SIGNATURE
from contract.records.optimization import EngineFiles, TensorDescription

FRONT = "front"

Feed = Mapping[str, Array]


@dataclass(frozen=True)
class Core:
    """What the models of other engines are made from.

    Attributes:
        saved: The core as a SavedModel with the signature `serving_default`.
        front: The front as one, or None.
        feeds: What the core gets for each of some rows, one row each, by its input names.
        signature: The whole signature, for its names.
        core: The core's graph.
    """

    saved: Path
    front: Path | None
    feeds: Sequence[Feed]
    signature: SignatureGraph
    core: SignatureGraph

    @classmethod
    def of(cls, model: Path, rows: Mapping[str, Array], workplace: Path) -> "Core":
        """Cut a SavedModel's `serving_default`.

        Args:
            model: The SavedModel.
            rows: Sample rows by input, `[rows, ...]`.
            workplace: An empty folder.

        Raises:
            DataError: If there is no such signature, no numeric part in it, or if answers depend
                on variables that signatures write to.
        """
        graphs = GraphModel.lift(model)
        if DEFAULT_SIGNATURE not in graphs.signatures:
            raise DataError(f"{model}: no signature '{DEFAULT_SIGNATURE}'")
        if live := live_variables(graphs):
            raise DataError(
                f"signatures write to variables that answers depend on ({', '.join(live)}); only "
                "TensorFlow "
                "has variables"
            )
        signature = graphs.signatures[DEFAULT_SIGNATURE]
        parts, front = cut(signature), None
        if parts.front is not None:
            front = workplace / FRONT
            replace(graphs, signatures={DEFAULT_SIGNATURE: parts.front}, parser=None).save(front)
        feeds = list(_feeds(parts.core, front, _typed(rows, signature)))
        core = _with_ranks(parts.core, feeds[0])
        saved = workplace / "core"
        GraphModel({DEFAULT_SIGNATURE: core}, None, ()).save(saved)
        return cls(saved, front, feeds, signature, core)

    def describe(self, files: EngineFiles, folder: Path) -> None:
        """Write `engine.json` and the front beside an engine's file."""
        if self.front is not None:
            shutil.copytree(self.front, folder / FRONT)
        files.write(folder / ENGINE_FILES)

    def files(self, engine: str, precision: str, file: str) -> EngineFiles:
        """Return the description of an engine's file."""
        return EngineFiles(
            engine=engine,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            core=file,
            front=FRONT if self.front is not None else "",
            core_inputs=tuple(self.core.inputs),
            core_outputs=tuple(self.core.outputs),
            inputs=_described(self.signature.inputs),
            outputs=_described(self.signature.outputs),
            index_limits=index_limits(self.core),
        )


def is_one_of(name: str, layers: Collection[str]) -> bool:
    """Tell whether an engine's name for a node is that of one of a graph's layers.

    Engines put the name of the calling function in front, join those of fused nodes by `;` and
    number equal ones.
    """
    parts = name.split(";")
    return any(
        re.fullmatch(rf"(.*/)?{re.escape(one)}\d?", part) for part in parts for one in layers
    )


def _typed(rows: Mapping[str, Array], signature: SignatureGraph) -> dict[str, Array]:
    return {
        name: rows[name] if spec.dtype == tf.string else rows[name].astype(spec.dtype.name)
        for name, (_, spec) in signature.inputs.items()
    }


def _feeds(core: SignatureGraph, front: Path | None, rows: Mapping[str, Array]) -> Iterator[Feed]:
    """Yield what the core gets for each row."""
    loaded = load(front) if front is not None else None
    for row in range(len(next(iter(rows.values())))):
        given = {name: array[row : row + 1] for name, array in rows.items()}
        if loaded is not None:
            wanted = loaded.input_specs()
            inputs = {n: tf.constant(a, wanted[n].dtype) for n, a in given.items() if n in wanted}
            answers = loaded.signature(DEFAULT_SIGNATURE)(**inputs)
            given |= {name: tensor.numpy() for name, tensor in answers.items()}
        yield {name: given[name] for name in core.inputs}


def _with_ranks(core: SignatureGraph, feed: Feed) -> SignatureGraph:
    """Return the core with a rank for every input: engines need one where TensorFlow does not."""
    inputs = dict(core.inputs)
    for name, (tensor, spec) in inputs.items():
        if spec.shape.rank is None:
            shape = [None] * np.ndim(feed[name])
            inputs[name] = (tensor, tf.TensorSpec(shape, spec.dtype, name))
    return replace(core, inputs=inputs)


def _described(
    named: Mapping[str, tuple[str, tf.TensorSpec]],
) -> tuple[TensorDescription, ...]:
    return tuple(
        TensorDescription(
            name=name,
            dtype=spec.dtype.name,
            shape=None if spec.shape.rank is None else tuple(spec.shape.as_list()),
        )
        for name, (_, spec) in named.items()
    )
