"""Callers that leave before the answer: real Envoy, agent and model servers, one of which hangs."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import warm
from two_scores import BODY, GrpcCaller, add_package, listener

from components.deploy.judging.evidence import growth

CALLS, PATIENCE_SECONDS = 20, 1.0


def test_what_callers_do_not_wait_for_is_counted_over_rest_and_grpc(
    make_stack: Callable[..., Any], warm_parent: Path, tmp_path: Path
) -> None:
    stack = make_stack(server_command=warm.server_command(warm_parent, tmp_path / "home"))
    add_package(stack, 1, (2.0, 1.0), grpc=True)
    add_package(stack, 2, (1.0, 2.0), grpc=True)
    stack.serve({1: 100}, standby=(2,))
    stack.until(lambda: stack.seen(2).is_ready, "version 2 ready")
    stack.serve({1: 50, 2: 50})
    canary = listener(stack.server_port(2))
    caller = GrpcCaller(stack.settings.envoy_port, "", PATIENCE_SECONDS)
    url = f"{stack.url}/v1/models/digits:predict"

    def over_rest(_: int) -> str:
        try:
            return httpx.post(url, json=BODY, timeout=PATIENCE_SECONDS).headers["x-slipway-version"]
        except httpx.TimeoutException:
            return "left"

    def over_grpc(_: int) -> str:
        answer = caller.call()
        return "left" if answer.startswith("DEADLINE_EXCEEDED") else answer

    canary.send_signal(signal.SIGSTOP)
    try:
        with caller.channel, ThreadPoolExecutor(2 * CALLS) as pool:
            ends = [pool.map(call, range(CALLS)) for call in (over_rest, over_grpc)]
            left = [list(one).count("left") for one in ends]
    finally:
        canary.send_signal(signal.SIGCONT)
    assert min(left) > 0, left
    # a busy machine may be slow for stable's callers, too
    stack.until(lambda: stack.seen(1).abandoned + stack.seen(2).abandoned == sum(left), f"{left}")
    found = stack.seen(2)
    assert found.abandoned > stack.seen(1).abandoned
    assert (found.requests, found.errors, found.client_errors) == (0, 0, 0)
    counts = growth(None, found)
    assert counts.requests == counts.errors == found.abandoned
