"""Callers that leave before the answer: real Envoy, agent and model servers, which hang or die."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from callers import Callers
from two_scores import BODY, GrpcCaller, add_package, listener

from components.deploy.canary.state import CanaryState
from components.deploy.canary.walk import Canary
from components.deploy.deployment import Deployment
from components.deploy.judging.evidence import growth
from components.runs.agent_client import AgentClient
from components.runs.tracking import Tracker
from contract.records.package import PackageManifest
from contract.schema.pipeline import PipelineConfig

CALLS, PATIENCE_SECONDS = 20, 2.0
LEAVE = 8
CONFIG = {
    "name": "digits",
    "features": {"x": {"dtype": "float32"}},
    "heads": {"digit": {"task": "multiclass_classification", "classes": ("a", "b")}},
    "ingest": {"source": {"kind": "csv", "files": ("x.csv",)}},
    "deploy": {
        "ladder_percent": (50, 100),
        "ladder": "all",
        "shadow_requests": 0,
        "min_seconds_per_step": 2.0,
        "timeout_seconds": 300.0,
    },
}


@pytest.fixture(scope="module")
def two_versions(warm_stack: Any) -> Any:
    """Version 1 in service and version 2 ready."""
    add_package(warm_stack, 1, (2.0, 1.0), grpc=True)
    add_package(warm_stack, 2, (1.0, 2.0), grpc=True)
    warm_stack.serve({1: 100}, standby=(2,))
    warm_stack.until(lambda: warm_stack.seen(2).is_ready, "version 2 ready")
    return warm_stack


@contextmanager
def hanging(stack: Any, *versions: int) -> Iterator[None]:
    """Let the servers of these versions answer nothing meanwhile."""
    servers = [listener(stack.server_port(version)) for version in versions]
    for server in servers:
        server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            server.send_signal(signal.SIGCONT)


def caller_over_rest(stack: Any) -> Callable[[int], str]:
    """Return what calls once, and returns the version that answered or 'left'."""
    url = f"{stack.url}/v1/models/digits:predict"

    def call(_: int) -> str:
        try:
            return httpx.post(url, json=BODY, timeout=PATIENCE_SECONDS).headers["x-slipway-version"]
        except httpx.TimeoutException:
            return "left"

    return call


def abandoned(stack: Any) -> int:
    return sum(stack.seen(version).abandoned for version in (1, 2))


def test_what_callers_do_not_wait_for_is_counted_over_rest_and_grpc(two_versions: Any) -> None:
    stack = two_versions
    stack.serve({1: 50, 2: 50})
    caller = GrpcCaller(stack.settings.envoy_port, "", PATIENCE_SECONDS)
    over_rest = caller_over_rest(stack)

    def over_grpc(_: int) -> str:
        answer = caller.call()
        return "left" if answer.startswith("DEADLINE_EXCEEDED") else answer

    with hanging(stack, 2), caller.channel, ThreadPoolExecutor(2 * CALLS) as pool:
        ends = [pool.map(call, range(CALLS)) for call in (over_rest, over_grpc)]
        left = [list(one).count("left") for one in ends]
    assert min(left) > 0, left
    # On a busy machine stable's callers leave, too, and a call may be too late before it is sent.
    stack.until(lambda: 0 <= sum(left) - abandoned(stack) <= 2, f"{left}")
    found = stack.seen(2)
    assert found.abandoned > stack.seen(1).abandoned
    assert (found.requests, found.errors, found.client_errors) == (0, 0, 0)
    counts = growth(None, found)
    assert counts.requests == counts.errors == found.abandoned


def test_a_whole_rollout_counts_who_leaves_and_no_retry_at_a_server_that_died(
    two_versions: Any, tmp_path: Path
) -> None:
    stack = two_versions
    stack.serve({1: 100}, standby=(2,))
    before, plan = abandoned(stack), stack.client.plan("digits")
    over_rest, address = caller_over_rest(stack), ("127.0.0.1", stack.settings.envoy_port)
    with (
        AgentClient(f"http://127.0.0.1:{stack.settings.port}", "secret") as client,
        Callers(address, "digits", BODY, 4, 0.005) as callers,
        ThreadPoolExecutor(1 + LEAVE) as pool,
    ):
        deployment = Deployment(
            client=client,
            layout=stack.layout,
            config=PipelineConfig.model_validate(CONFIG),
            manifest=PackageManifest.read(stack.layout.package_manifest(2)),
            bless=None,
            author="run r2",
            output=tmp_path,
            tracker=Tracker(),
            check_attempt=lambda: None,
        )
        canary = Canary(deployment, CanaryState(version=2, champion=1, plan=plan))
        walk = pool.submit(canary.walk)
        stack.until(lambda: canary.state.canary.requests > 20, "traffic on the first rung")
        stack.kill(stack.server(2))
        stack.until(lambda: canary.state.deaths == 1 and canary.state.is_entered, "there again")
        assert abandoned(stack) == before
        with hanging(stack, 1, 2):
            left = [*pool.map(over_rest, range(LEAVE))].count("left")
        assert left == LEAVE
        state = walk.result(timeout=200)
    assert (state.ending, state.deaths) == ("passed", 1), state.reason
    assert [rung.name for rung in state.ladder] == ["50 %", "95 %"]
    assert abandoned(stack) == before + left
    # nothing else was an error to either version since the rung began again
    assert sum(rung.errors + rung.stable_errors for rung in state.ladder) == left
    assert callers.failures().total() <= 2 * 4  # what was under way when the server was killed
