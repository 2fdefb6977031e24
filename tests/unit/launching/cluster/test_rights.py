"""A missing right is named by verb, resource, namespace and role: before a run and in it."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_cluster import NAMESPACE, Pod, SmallCluster

from contract.clients.cluster import Cluster
from contract.clients.cluster_errors import ForbiddenError
from contract.schema.cluster import JobConfig, KubernetesConfig, PodConfig
from contract.schema.training import TrainConfig
from contract.steps import STEPS
from launching.cluster.claim import Claim
from launching.cluster.kinds import RESOURCES
from launching.cluster.pods import SERVICES, PodJob
from launching.cluster.preflight import ClusterReport, cluster_reports
from launching.cluster.rights import FOLDER, ROLE, needed_rights
from launching.job_spec import JobSpec

REPOSITORY = Path(__file__).parents[4]


async def runs_for_ever(cluster: SmallCluster, made: Pod) -> None:
    cluster.run(made)
    cluster.say(made, "2026-01-01 12:00:00 INFO step 1")


async def ends_well(cluster: SmallCluster, made: Pod) -> None:
    await runs_for_ever(cluster, made)
    cluster.end(made)


def config(cluster: SmallCluster, kind: Any = "pods") -> KubernetesConfig:
    return KubernetesConfig(
        clusters={"one": cluster.settings()},
        default_cluster="one",
        pod=PodConfig(image="i:1"),
        job=JobConfig(kind=kind, grace_seconds=0),
    )


def report(cluster: SmallCluster) -> ClusterReport:
    return asyncio.run(cluster_reports(config(cluster), TrainConfig()))["one"]


def test_check_names_what_the_account_may_not_do(tmp_path: Path) -> None:
    with SmallCluster(tmp_path, ends_well) as cluster:
        assert report(cluster) == ClusterReport()
        cluster.forbidden = {"watch pods", "delete pods", "get pods/log", "list events"}
        found = report(cluster)
    advice = f"apply Role '{ROLE}' of {FOLDER} there, and bind it to the account"
    where = f"in namespace '{NAMESPACE}'"
    assert found.problems == [
        f"rights: the account may not delete, watch pods {where}; {advice}",
        f"rights: the account may not get pods/log {where}; {advice}",
    ]
    assert found.warnings == [
        f"rights: the account may not list events {where}: the log does not tell what pods wait "
        f"for; {advice}"
    ]


@pytest.mark.parametrize("kind", RESOURCES)
def test_what_is_asked_for_is_what_the_shipped_role_gives(kind: Any, tmp_path: Path) -> None:
    bodies = yaml.safe_load_all((REPOSITORY / FOLDER / "rbac.yaml").read_text())
    rules = next(
        b["rules"] for b in bodies if b["kind"] == "Role" and b["metadata"]["name"] == ROLE
    )
    given = {
        (group, resource): set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    with SmallCluster(tmp_path, ends_well) as cluster:
        pod = PodConfig(image="i:1", queue="team-a")  # evaluators wait in it, whatever the kind
        kubernetes = config(cluster, kind).model_copy(update={"pod": pod})
    asked = {(r.group, r.resource): set(r.verbs) for r in needed_rights(kubernetes, list(STEPS))}
    others = {key for key in given if key[0] == "kubeflow.org" and key[1] != f"{kind}s"}
    assert asked == {key: verbs for key, verbs in given.items() if key not in others}


def test_without_a_queue_nothing_of_kueue_is_asked_for(tmp_path: Path) -> None:
    with SmallCluster(tmp_path, ends_well) as cluster:
        asked = {rights.resource for rights in needed_rights(config(cluster), list(STEPS))}
    assert "workloads" not in asked


async def drive(cluster: SmallCluster, said: list[tuple[int, str]]) -> Any:
    job = JobSpec(name="job", step="train", command=("true",), replicas={"chief": 1, "worker": 1})
    async with Cluster(cluster.settings()) as api:
        claim = Claim(api, SERVICES, {"slipway/task": "t"}, 0, 1)
        driver = PodJob(api, job, config(cluster), claim, lambda *words: said.append(words))
        return await driver.run()


def test_a_job_that_may_not_watch_its_pods_ends_and_says_so(tmp_path: Path) -> None:
    with SmallCluster(tmp_path, runs_for_ever) as cluster:
        cluster.forbidden = {"watch pods"}
        with pytest.raises(ForbiddenError, match=f"right to watch pods in namespace '{NAMESPACE}'"):
            asyncio.run(asyncio.wait_for(drive(cluster, []), 60))


def test_a_job_whose_logs_may_not_be_read_runs_and_says_so_once(tmp_path: Path) -> None:
    said: list[tuple[int, str]] = []
    with SmallCluster(tmp_path, ends_well) as cluster:
        cluster.forbidden = {"get pods/log"}
        end = asyncio.run(asyncio.wait_for(drive(cluster, said), 60))
    assert end.is_good
    warnings = [text for level, text in said if level == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("logs of pods are not shown: ")
    assert f"The right to get pods/log in namespace '{NAMESPACE}' is missing" in warnings[0]
