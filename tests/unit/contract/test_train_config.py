"""Trainings that cannot be are refused when the config is read, with the reason."""

import pytest
from pydantic import ValidationError

from contract.schema.data import HeadConfig
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig

SERVERS = {"strategy": "parameter_server"}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"eager": True, "jit_compile": True}, "eager and jit_compile exclude each other"),
        ({"compression": "bfloat16"}, "compression: only of strategies multi_worker and mpi"),
        (
            {"strategy": "multi_worker", "compression": "bfloat16", "all_reduce": "grpc"},
            "'grpc' sends float32; use all_reduce: ring",
        ),
        ({"all_reduce": "ring"}, "all_reduce: only of strategy multi_worker"),
        ({"is_synchronous": True}, "is_synchronous: only of strategy parameter_server"),
        ({"max_staleness": 1}, "max_staleness: only of asynchronous parameter servers"),
        ({**SERVERS, "is_synchronous": True, "max_staleness": 1}, "only of asynchronous"),
        ({**SERVERS, "is_deterministic": True}, "apply gradients as they come; set is_synchronous"),
        ({**SERVERS, "precision": "mixed_float16"}, "one loss scale for all"),
        ({"strategy": "mpi", "workers": 8, "batch_size": 7}, "7 examples for 8 workers"),
        ({"profile_steps": (5,)}, "expected .first, last."),
        ({"profile_steps": (9, 5)}, "first <= last <= steps .1000., found .9, 5."),
        ({"profile_steps": (990, 1001)}, "first <= last <= steps .1000., found .990, 1001."),
        ({"accumulation_steps": 65}, "65 parts of a batch of 64 examples"),
        ({"strategy": "horovod"}, "Input should be 'single', 'mirrored', 'multi_worker'"),
    ],
)
def test_impossible_trainings_are_refused(train, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**train)


@pytest.mark.parametrize(
    "train",
    [
        {**SERVERS, "is_deterministic": True, "max_staleness": 0},
        {**SERVERS, "is_deterministic": True, "is_synchronous": True},
        {"strategy": "mpi", "compression": "bfloat16"},
        {"profile_steps": (5, 9)},
    ],
)
def test_possible_ones_are_taken(train):
    assert TrainConfig(**train)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"size": {"a": 2.0}}, "'size' is not a head with classes"),
        ({"kind": {"d": 2.0}}, "train.class_weights.kind: 'd' is not a class of the head"),
    ],
)
def test_class_weights_of_what_is_not_there_are_refused(weights, message):
    source = {"kind": "sklearn", "dataset": "digits"}
    kind = HeadConfig(task="multiclass_classification", classes=("a", "b"))
    with pytest.raises(ValidationError, match=message):
        PipelineConfig.model_validate(
            {
                "name": "tiny",
                "features": {"x": {"dtype": "float32"}},
                "heads": {"kind": kind, "size": HeadConfig(task="regression")},
                "ingest": {"source": source},
                "train": {"class_weights": weights},
            }
        )
