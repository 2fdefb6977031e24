"""The client of a cluster's API against a stand-in: what it refuses, and how many it can follow."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from stub_api import StubApi, listed, pod

from contract.clients.cluster import Cluster
from contract.clients.cluster_errors import ForbiddenError, QuotaError, error_of
from contract.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
)
from contract.schema.cluster import ClusterConfig

T = TypeVar("T")


def with_cluster(settings: ClusterConfig, work: Callable[[Cluster], Any]) -> Any:
    async def run() -> Any:
        async with Cluster(settings) as cluster:
            return await work(cluster)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "message", "kind", "said"),
    [
        (400, "invalid", ConfigError, "invalid. See the runtime file's 'pod' section"),
        (401, "Unauthorized", ConfigError, r"access denied \(401\): .*renew the kubeconfig"),
        (403, "no right", ForbiddenError, "Give the service account the verbs of docker/"),
        (403, "exceeded quota: team", QuotaError, "exceeded quota"),
        (404, "no pod", NotFoundError, "no pod"),
        (409, "exists", ConflictError, "exists"),
        (422, "bad", ConfigError, "bad. See the runtime file's 'pod' section"),
        (500, "etcd", ServiceUnavailableError, r"etcd \(500\)"),
    ],
)
def test_a_refusal_has_its_error_and_says_what_to_do(
    api: StubApi, status: int, message: str, kind: type[SlipwayError], said: str
) -> None:
    api.say("GET", "pods", {"code": status, "message": message}, "one")
    with pytest.raises(kind, match=f"cluster 'one', namespace 'team': .*{said}") as raised:
        with_cluster(api.cluster(), lambda cluster: cluster.get("pods", "one"))
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("reason", "is_right", "words"),
    [
        (
            'pods "x" is forbidden: no PriorityClass with name urgent was found',
            False,
            "Create PriorityClass 'urgent', or name another one in the template",
        ),
        (
            'pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2',
            False,
            "A rule of the cluster refuses it, no right is missing",
        ),
        (
            'pods is forbidden: User "system:serviceaccount:slipway:slipway-launcher" cannot list '
            'resource "pods" in API group "" in the namespace "slipwai"',
            True,
            "is of namespace 'slipway': expected that in the runtime file instead of 'slipwai'",
        ),
        (
            'pods is forbidden: User "system:serviceaccount:slipway:slipway-launcher" cannot list '
            'resource "pods" in API group "" in the namespace "slipway"',
            True,
            "The right to list pods in namespace 'slipway' is missing. Give the service account "
            "the verbs of docker/kubernetes/base, Role 'slipway-launcher'",
        ),
        (
            'deployments.apps is forbidden: User "system:serviceaccount:slipway:slipway-agent" '
            'cannot patch resource "deployments" in API group "apps" in the namespace "slipway"',
            True,
            "The right to patch deployments.apps in namespace 'slipway' is missing. Give the "
            "service account the verbs of docker/kubernetes/serving, Role 'slipway-agent'",
        ),
        (
            'nodes is forbidden: User "ann" cannot list resource "nodes" in API group "" at the '
            "cluster scope",
            True,
            "The right to list nodes in the whole cluster is missing. Give the service account "
            "the verbs of docker/kubernetes/base, Role 'slipway-launcher'",
        ),
    ],
)
def test_a_403_is_a_missing_right_only_where_it_says_so(
    reason: str, is_right: bool, words: str
) -> None:
    body = json.dumps({"message": reason})
    error = error_of(403, body, "cluster 'one'", "POST /pods")
    assert isinstance(error, ForbiddenError) is is_right
    assert isinstance(error, ConfigError)
    assert words in str(error)


def test_a_namespace_that_is_ending_is_not_a_missing_right() -> None:
    ending = "pods is forbidden: unable to create new content in namespace team"
    error = error_of(403, ending, "cluster 'one'", "POST /pods")
    assert type(error) is ServiceUnavailableError


def test_an_api_server_of_this_machine_is_called_past_the_proxy(
    api: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    api.say("GET", "pods", listed(pod()))
    found = with_cluster(api.cluster(), lambda cluster: cluster.list("pods", {}))
    assert len(found["items"]) == 1


def test_a_deletion_tells_whether_there_was_something(api: StubApi) -> None:
    api.say("DELETE", "pods", {}, "there")

    async def delete(cluster: Cluster) -> list[bool]:
        return [await cluster.delete("pods", name) for name in ("there", "gone")]

    assert with_cluster(api.cluster(), delete) == [True, False]


def test_calls_are_made_while_more_pods_are_followed_than_a_pool_holds(api: StubApi) -> None:
    """Each log and each watch holds a connection; the library's pool has a hundred."""
    api.say("GET", "pods", listed(pod()))

    async def follow(cluster: Cluster) -> Any:
        async def watch() -> None:
            async for _ in cluster.watch("pods", {}, ""):
                pass

        watching = [asyncio.create_task(watch()) for _ in range(101)]
        try:
            while sum(request.is_watch for request in api.requests) < len(watching):
                await asyncio.sleep(0.01)
            return await cluster.list("pods", {})
        finally:
            for one in watching:
                one.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    found = with_cluster(api.cluster(), lambda cluster: asyncio.wait_for(follow(cluster), 10))
    assert len(found["items"]) == 1


@pytest.mark.parametrize(
    ("content", "context", "said"),
    [
        (
            "contexts: [{name: train, context: {cluster: c, user: u}}]",
            "trian",
            r"context 'trian': not in .*; did you mean 'train'\? \(known: train\)",
        ),
        ("contexts: [{name: train, context: {cluster: c}}]", "", "context 'current' of .*: "),
        ("a: [", "train", "kubeconfig .*: not readable: "),
        ("", "train", "kubeconfig .*: not readable: "),
    ],
)
def test_a_kubeconfig_that_does_not_do_is_said(
    tmp_path: Path, content: str, context: str, said: str
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(f"clusters: [{{name: c, cluster: {{server: x}}}}]\nusers: []\n{content}")
    if not content:
        path.unlink()
    settings = ClusterConfig(context=context, kubeconfig=str(path))
    with pytest.raises(ConfigError, match=said):
        with_cluster(settings, lambda cluster: cluster.list("pods", {}))
