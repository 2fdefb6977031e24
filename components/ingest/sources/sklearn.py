"""Data sets that ship inside scikit-learn."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.data.raw_rows import SourceRows
from contract.schema.data import SklearnSource

_BATCH_ROWS = 4096

# The names are part of scikit-learn's data; here, so that `slipway check` need not load it.
_WINE = """
alcohol malic_acid ash alcalinity_of_ash magnesium total_phenols flavanoids nonflavanoid_phenols
proanthocyanins color_intensity hue od280_od315_of_diluted_wines proline
"""
_CELL = """
radius texture perimeter area smoothness compactness concavity concave_points symmetry
fractal_dimension
"""
_FEATURES = {
    "digits": ["image"],
    "iris": [f"{part}_{side}_cm" for part in ("sepal", "petal") for side in ("length", "width")],
    "wine": _WINE.split(),
    "breast_cancer": [
        form.format(name) for form in ("mean_{}", "{}_error", "worst_{}") for name in _CELL.split()
    ],
}


def files(source: SklearnSource) -> list[Path]:
    """Return the data set's name as the one 'file' to read."""
    return [Path(f"sklearn-{source.dataset}")]


def columns(source: SklearnSource, file: Path) -> tuple[str, ...]:  # noqa: ARG001
    """Return `image` or the table's columns in snake case, and `label`."""
    return (*_FEATURES[source.dataset], "label")


def read(source: SklearnSource, file: Path) -> Iterator[SourceRows]:
    """Yield the rows; rows count from 1."""
    batch = _load(source.dataset)
    for start in range(0, batch.num_rows, _BATCH_ROWS):
        part = batch.slice(start, _BATCH_ROWS)
        yield SourceRows(str(file), np.arange(start + 1, start + 1 + part.num_rows), part)


def size_bytes(source: SklearnSource, file: Path) -> int:  # noqa: ARG001
    """Return the size in memory."""
    return int(_load(source.dataset).nbytes)


@cache
def _load(dataset: str) -> pa.RecordBatch:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{dataset}")()
    label = pa.array([str(name) for name in np.asarray(bunch.target_names)[bunch.target]])
    if dataset == "digits":
        pixels = bunch.images.astype(np.float32).reshape(len(bunch.images), -1)
        image = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), pixels.shape[1])
        return pa.RecordBatch.from_pydict({"image": image, "label": label})
    table = dict(zip(_FEATURES[dataset], map(pa.array, bunch.data.T), strict=True))
    return pa.RecordBatch.from_pydict({**table, "label": label})
