"""Roles, names and TF_CONFIG of a job, by hand."""

import json
from typing import Any

import pytest

from contract.command import StepCommand
from contract.schema.cluster import JobConfig
from contract.schema.training import TrainConfig
from launching.job_spec import (
    JobSpec,
    Replica,
    evaluation_job,
    job_name,
    tf_config,
    training_job,
)

COMMAND = StepCommand("train", "digits", "r1", "/data")


def job(**train: Any) -> JobSpec:
    return training_job("digits-train", COMMAND, TrainConfig(**train), JobConfig(), "python3")


@pytest.mark.parametrize(
    ("train", "replicas", "replaceable"),
    [
        ({"strategy": "single"}, {"chief": 1}, set()),
        ({"strategy": "mirrored", "workers": 4}, {"chief": 1}, set()),
        ({"strategy": "multi_worker", "workers": 1}, {"chief": 1}, set()),
        ({"strategy": "multi_worker", "workers": 3}, {"chief": 1, "worker": 2}, set()),
        (
            {"strategy": "parameter_server", "workers": 3, "parameter_servers": 2},
            {"chief": 1, "worker": 3, "ps": 2},
            {"worker"},
        ),
        (
            {"strategy": "parameter_server", "is_synchronous": True},
            {"chief": 1, "worker": 2, "ps": 1},
            set(),
        ),
        ({"strategy": "mpi", "workers": 4}, {"worker": 4}, set()),
    ],
)
def test_the_strategy_decides_who_takes_part_and_who_can_be_replaced_alone(
    train: Any, replicas: Any, replaceable: set[str]
) -> None:
    made = job(**train)
    assert made.replicas == replicas
    assert made.replaceable == replaceable
    assert made.is_mpi == (train["strategy"] == "mpi")
    assert made.command[:3] == ("python3", "-m", "components.train")
    assert made.hangs == "/data/digits/runs/r1/.attempts/train/hangs"


def test_evaluators_are_plain_pods_and_each_can_be_replaced_alone() -> None:
    command = StepCommand("evaluate", "digits", "r1", "/data")
    made = evaluation_job("digits-evaluate", command, 3, JobConfig(kind="tfjob"), "python3")
    assert made.chief == Replica("evaluator", 0)
    assert (made.replicas, made.replaceable) == ({"evaluator": 3}, {"evaluator"})
    assert made.settings.kind == "pods"
    assert evaluation_job("e", command, 1, JobConfig(), "python3").is_alone


def test_each_replica_is_told_who_and_where_the_others_are() -> None:
    made = job(strategy="parameter_server", workers=2, parameter_servers=1)
    told = json.loads(tf_config(made, Replica("worker", 1), lambda r: f"{r}.job:2222"))
    assert told == {
        "cluster": {
            "chief": ["chief-0.job:2222"],
            "worker": ["worker-0.job:2222", "worker-1.job:2222"],
            "ps": ["ps-0.job:2222"],
        },
        "task": {"type": "worker", "index": 1},
    }


def test_the_chief_is_the_first_member_whatever_the_roles_are_called() -> None:
    assert job(strategy="multi_worker").chief == Replica("chief", 0)
    assert job(strategy="mpi").chief == Replica("worker", 0)
    assert [str(m) for m in job(strategy="multi_worker").members()] == ["chief-0", "worker-0"]


def test_a_job_survives_being_written_down() -> None:
    made = job(strategy="parameter_server")
    assert JobSpec.model_validate_json(made.model_dump_json()) == made


def test_a_name_belongs_to_one_generation_of_one_task_of_one_run() -> None:
    name = job_name("digits", "manual__2026-01-01", "train", 0)
    assert name == job_name("digits", "manual__2026-01-01", "train", 0)
    others = [("digits", "manual__2026-01-02", "train", 0), ("digits", "r", "train", 1)]
    others += [("digits", "manual__2026-01-01", "evaluate", 0)]
    assert len({name, *(job_name(*other) for other in others)}) == 4


def test_a_name_is_a_dns_label_with_room_for_a_pods_suffix() -> None:
    name = job_name("A_" * 40, "run with spaces / and slashes", "evaluate_long_task_name", 99)
    assert len(name) + len("-worker-123-99") <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[0].isalnum()


def test_a_trainer_of_the_users_own_gets_the_same_arguments() -> None:
    settings = JobConfig(kind="pytorchjob", command=("python", "-m", "ours.train"))
    made = training_job("digits-train", COMMAND, TrainConfig(), settings, "python3")
    assert made.command == (
        *("python", "-m", "ours.train"),
        *("--pipeline", "digits", "--run-id", "r1", "--root", "/data"),
    )
    judging = evaluation_job("digits-evaluate", COMMAND, 1, settings, "python3")
    assert judging.command[:3] == ("python3", "-m", "components.train")
