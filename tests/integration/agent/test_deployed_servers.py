"""Servers as Deployments, against a stand-in for the API server that can fall silent."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.errors import ConfigError, ServiceUnavailableError
from contract.pod_templates import merged
from contract.schema.cluster import ClusterConfig, KubernetesConfig, PodConfig, ServingConfig
from serving.agent.hosts.deployed_servers import DeployedServers, deployed_servers
from serving.agent.hosts.host import ServerSpec, ServerState
from serving.agent.hosts.server_objects import server_labels
from serving.traffic.backend import Version

DIGITS = ("digits", 3)
SPEC = ServerSpec("digits", 3, Path("/p"), Path("/l"), drain_seconds=1.0)


class Api:
    """Keeps what is applied, lists it, and forgets what is deleted."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}  # by path
        self.pods: list[dict[str, Any]] = []
        self.is_silent = False
        self.looks = 0  # at Deployments
        self.refusal = 0  # the status of all answers
        self.absent = "none"  # what paths begin with that the server does not have
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                api.looks += path.endswith("/deployments")
                below = [o for p, o in api.objects.items() if p.rpartition("/")[0] == path]
                self._answer(200, {"items": api.pods if path.endswith("/pods") else below})

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                path = self.path.partition("?")[0]
                if path.startswith(api.absent):
                    return self._answer(404, {"message": "not found"})
                if "merge-patch" in self.headers["content-type"]:
                    body = merged(api.objects[path], body)
                body["metadata"]["uid"] = "u"
                api.objects[path] = body
                return self._answer(200, body)

            def do_DELETE(self) -> None:
                found = api.objects.pop(self.path.partition("?")[0], None)
                self._answer(200 if found else 404, found or {"message": "not found"})

            def _answer(self, status: int, body: Any) -> None:
                while api.is_silent:
                    time.sleep(0.05)
                if api.refusal:
                    status, body = api.refusal, {"message": "refused"}
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.is_silent = False
    made.server.shutdown()


@pytest.fixture
def kubernetes(api: Api, tmp_path: Path) -> KubernetesConfig:
    url = f"http://127.0.0.1:{api.server.server_port}"
    parts = {"cluster": {"server": url}, "user": {}, "context": {"cluster": "one", "user": "one"}}
    config = {f"{kind}s": [{"name": "one", kind: part}] for kind, part in parts.items()}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    return KubernetesConfig(
        clusters={"one": ClusterConfig(context="one", kubeconfig=str(path))},
        default_cluster="one",
        pod=PodConfig(image="serving:1"),
        serving=ServingConfig(max_replicas=3),
    )


@pytest.fixture
def servers(kubernetes: KubernetesConfig) -> Iterator[DeployedServers]:
    with deployed_servers(kubernetes) as made:
        yield made


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def servers_after_a_while(servers: DeployedServers) -> Mapping[Version, ServerState]:
    """Return the states as soon as they can be said again."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(ServiceUnavailableError):
            return servers.states()
        time.sleep(0.1)
    raise AssertionError("it does not come back")


def test_what_is_started_is_applied_owned_and_kept(
    api: Api, servers: DeployedServers, kubernetes: KubernetesConfig
) -> None:
    assert servers.states() == {}
    servers.start(SPEC)
    assert sorted(body["kind"] for body in api.objects.values()) == [
        *("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service")
    ]
    owners = [
        o["metadata"].get("ownerReferences", [{}])[0].get("uid") for o in api.objects.values()
    ]
    assert sorted(owners, key=str) == [None, "u", "u", "u"]
    assert servers.states()[DIGITS].is_kept
    # another agent brings what it finds to what its own runtime file says
    with deployed_servers(kubernetes) as others:
        assert not others.states()[DIGITS].is_kept


def test_before_1_21_the_budget_has_another_version(api: Api, servers: DeployedServers) -> None:
    api.absent = "/apis/policy/v1/"
    servers.start(SPEC)
    (budget,) = (o for o in api.objects.values() if o["kind"] == "PodDisruptionBudget")
    assert budget["apiVersion"] == "policy/v1beta1"
    assert servers.states()[DIGITS].is_kept


def test_what_somebody_has_scaled_down_is_scaled_up_again_and_told(
    api: Api, servers: DeployedServers
) -> None:
    servers.start(SPEC)
    (deployment,) = (o for o in api.objects.values() if o["kind"] == "Deployment")
    deployment["spec"]["replicas"] = 1  # as a new one has until its autoscaler has looked
    looks = api.looks
    until(lambda: api.looks >= looks + 2)
    assert servers.states()[DIGITS].problem == ""
    deployment["spec"]["replicas"] = 0
    words = "its Deployment slipway-digits-3 was scaled to 0 replicas: set to 2 again"
    until(lambda: servers.states()[DIGITS].problem == words)
    (deployment,) = (o for o in api.objects.values() if o["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 2
    deployment["status"] = {"readyReplicas": 2}
    until(lambda: servers.states()[DIGITS].problem == "")


def test_a_stopped_one_is_gone_when_the_api_says_so(api: Api, servers: DeployedServers) -> None:
    servers.start(SPEC)
    assert not servers.stop(DIGITS)
    assert servers.stop(DIGITS)
    assert DIGITS not in servers.states()


def test_what_keeps_a_pod_from_serving_is_said(api: Api, servers: DeployedServers) -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    status = {"containerStatuses": [{"name": "main", "state": {"waiting": waiting}}]}
    labels = server_labels(DIGITS)
    api.pods = [{"metadata": {"name": "digits-x", "labels": labels}, "status": status}]
    servers.start(SPEC)
    problem = servers.states()[DIGITS].problem
    assert problem == "its pod digits-x: CrashLoopBackOff: back-off 10s"


def test_nobody_waits_for_a_silent_api_server(api: Api, servers: DeployedServers) -> None:
    servers.start(SPEC)
    api.is_silent = True
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        began = time.monotonic()
        try:
            servers.states()
        except ServiceUnavailableError:
            break
        finally:
            assert time.monotonic() - began < 0.5
        time.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="no answer to GET .*/deployments"):
        servers.start(SPEC)
    with pytest.raises(ServiceUnavailableError, match="no answer to GET .*/deployments"):
        servers.stop(DIGITS)
    assert time.monotonic() - began < 0.5
    api.is_silent = False
    assert servers_after_a_while(servers)[DIGITS].is_kept


@pytest.mark.parametrize(("status", "advice"), [(401, "log in again"), (403, "verbs of docker/")])
def test_a_refusal_ends_nothing_and_says_what_to_do(
    api: Api, servers: DeployedServers, status: int, advice: str
) -> None:
    api.refusal = status
    with pytest.raises(ServiceUnavailableError, match=rf"cluster 'one'.*{advice}"):
        servers.start(SPEC)
    assert not servers.is_gone("10.0.0.1")  # nobody can say


def test_an_answer_that_cannot_be_read_is_told_until_it_can(
    api: Api, servers: DeployedServers
) -> None:
    api.pods = [{"metadata": {"name": "x"}}]
    servers.start(SPEC)  # it looks at once
    with pytest.raises(ServiceUnavailableError, match="API server's answer: KeyError.'labels'"):
        servers.states()
    api.pods = []
    assert servers_after_a_while(servers)[DIGITS].is_kept


def test_an_address_is_gone_when_no_pod_runs_there(api: Api, servers: DeployedServers) -> None:
    assert servers.is_gone("10.0.0.1")
    api.pods = [{"metadata": {"name": "x", "labels": {}}, "status": {"phase": "Running"}}]
    assert not servers.is_gone("10.0.0.1")
    api.pods[0]["status"]["phase"] = "Failed"
    assert servers.is_gone("10.0.0.1")


def test_a_context_that_is_not_there_is_refused(kubernetes: KubernetesConfig) -> None:
    one = kubernetes.clusters["one"].model_copy(update={"context": "other"})
    with pytest.raises(ConfigError, match="'other'"):
        deployed_servers(kubernetes.model_copy(update={"clusters": {"one": one}})).__enter__()
