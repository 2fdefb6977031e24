"""Export and the two signatures, on a trained run with every kind of feature and two heads."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.bless.candidate import export_candidate
from components.package.skew import SkewCheck
from components.raw_examples import RawColumns, encode_rows, to_rows
from components.saved_models import (
    EXAMPLES_SIGNATURE,
    RAW_SIGNATURE,
    LoadedModel,
    load,
    predict_columns,
    predict_examples,
    wire_inputs,
)
from contract.errors import DataError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records import Result, TransformRecord
from contract.schema import PipelineConfig

ROWS = 50


@pytest.fixture(scope="module")
def config(trained_run: RunLayout) -> PipelineConfig:
    return load_frozen(trained_run)


@pytest.fixture(scope="module")
def offline(trained_run: RunLayout) -> SkewCheck:
    """Raw test rows, and what Beam's transformed examples and the Keras model say of them."""
    return SkewCheck.of_run(trained_run, ROWS)


@pytest.fixture(scope="module")
def exported(
    trained_run: RunLayout, config: PipelineConfig, tmp_path_factory: pytest.TempPathFactory
) -> LoadedModel:
    target = tmp_path_factory.mktemp("exported") / "model"
    record = Result.read(trained_run.result("transform")).detail_as(TransformRecord)
    export_candidate(trained_run, config, record, target)
    return load(target)


def first(columns: RawColumns, rows: int) -> RawColumns:
    features = {name: column[:rows] for name, column in columns.features.items()}
    labels = {name: column[:rows] for name, column in columns.labels.items()}
    return RawColumns(features, labels, columns.ids[:rows], None)
