"""Which process of a job this is."""

import json

import pytest

from contract.errors import ConfigError
from contract.roles import Role, role_of

CLUSTER = {"chief": ["a:1"], "worker": ["b:2", "c:3"], "ps": ["d:4"]}


def tf_config(kind: str, index: int, cluster: object = CLUSTER) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_without_any_word_it_is_a_chief_by_itself():
    assert role_of({}) == role_of({"TF_CONFIG": " "}) == Role()
    assert role_of({}).is_alone


def test_tf_config_names_the_task_and_its_address():
    role = role_of(tf_config("worker", 1))
    assert (role.name, role.address, role.is_chief) == ("worker-1", "c:3", False)
    assert role.members == ("chief-0", "worker-0", "worker-1", "ps-0")


@pytest.mark.parametrize(("index", "name"), [(0, "chief-0"), (1, "worker-0")])
def test_worker_0_is_the_chief_of_a_cluster_without_one(index, name):
    role = role_of(tf_config("worker", index, {"worker": ["b:2", "c:3"]}))
    assert role.name == name
    assert role.members == ("chief-0", "worker-0")


def test_evaluator_0_is_the_chief_of_evaluators():
    several = {"evaluator": ["b:2", "c:3"]}
    assert [role_of(tf_config("evaluator", n, several)).name for n in (0, 1)] == [
        "chief-0",
        "worker-0",
    ]


def test_rank_0_of_mpi_is_the_chief():
    of_rank = [
        role_of({"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": "2"}) for rank in "01"
    ]
    assert [role.is_chief for role in of_rank] == [True, False]
    assert of_rank[1].members == ("chief-0", "worker-1")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "TF_CONFIG: JSONDecodeError"),
        ({"TF_CONFIG": "{}"}, "TF_CONFIG: KeyError: 'cluster'; expected"),
        (tf_config("worker", 2), "task worker 2 is not in the cluster"),
        (tf_config("evaluator", 0), "task evaluator 0 is not in the cluster"),
        (tf_config("chief", 0, {"chief": ["a:1", "b:2"]}), "2 chiefs; expected one"),
    ],
)
def test_a_broken_tf_config_is_refused(environment, message):
    with pytest.raises(ConfigError, match=message):
        role_of(environment)
