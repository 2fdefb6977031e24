"""Data sets inside scikit-learn: their columns are known without it, and are its own."""

import re
import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pytest
from sklearn import datasets

from components.ingest.sources import sklearn
from contract.schema.data import SklearnSource

DATASETS = get_args(SklearnSource.model_fields["dataset"].annotation)


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name != "digits"])
def test_a_table_has_scikit_learns_columns_in_snake_case_and_its_values(dataset: Any) -> None:
    source = SklearnSource(kind="sklearn", dataset=dataset)
    (file,) = sklearn.files(source)
    bunch = getattr(datasets, f"load_{dataset}")()
    names = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in bunch.feature_names]
    assert sklearn.columns(source, file) == (*names, "label")
    (part,) = sklearn.read(source, file)
    assert part.columns.schema.names == [*names, "label"]
    for place, name in enumerate(names):
        assert np.array_equal(part.columns[name].to_numpy(), bunch.data[:, place])


def test_digits_are_images() -> None:
    source = SklearnSource(kind="sklearn", dataset="digits")
    (file,) = sklearn.files(source)
    (part,) = sklearn.read(source, file)
    assert sklearn.columns(source, file) == ("image", "label")
    assert part.columns.schema.names == ["image", "label"]
    assert part.columns["image"][5].as_py() == datasets.load_digits().data[5].tolist()


def test_columns_are_known_without_scikit_learn() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom components.ingest.sources import sklearn\n"
        "from contract.schema.data import SklearnSource\n"
        "source = SklearnSource(kind='sklearn', dataset='wine')\n"
        "print(len(sklearn.columns(source, Path('x'))), 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["14", "False"]
