"""A whole server but for the process and TensorFlow: real sockets, an engine that doubles."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from serving.server.core.batching import Batcher
from serving.server.core.metrics import ServerMetrics
from serving.server.core.model import array_readers, fillers, readers
from serving.server.core.prediction_log import PredictionLog
from serving.server.core.service import Loaded, PredictService
from serving.server.core.unanswerable import Control
from serving.server.engines.engine import Columns, Outputs, RefusedInputError, Signature, TensorInfo
from serving.server.grpc.front import GrpcFront, GrpcPorts
from serving.server.http.connection import Connection
from serving.server.http.connections import Connections
from serving.server.http.targets import DEFAULT_LABELS
from serving.server.rest.rest import RestApi

UNLUCKY = 13.0  # the engine refuses a row with it
BROKEN = 666.0  # the engine fails on it, as no engine should
ENDLESS = 1e30  # the engine answers infinity


class Doubling:
    """An engine that answers twice the input `x`, `[rows]`, and the sum of its list `items`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[int] = []
        self.is_dead = False
        self.signatures: Mapping[str, Signature] = {
            "serving_default": Signature(
                {"x": TensorInfo("x", "float32", (None,))},
                {"value": TensorInfo("value", "float32", (None,))},
            )
        }

    def call(self, _signature: str, columns: Columns) -> Outputs:
        time.sleep(self.seconds)
        x = columns["x"]
        self.batches.append(len(x))
        if self.is_dead:
            raise MemoryError("out of memory")
        if (x == UNLUCKY).any():
            raise RefusedInputError("13 is unlucky")
        if (x == np.float32(BROKEN)).any():
            raise ArithmeticError("broken on purpose")
        return {"value": np.where(x == np.float32(ENDLESS), np.inf, 2 * x).astype(np.float32)}


def make_manifest(**changes: Any) -> PackageManifest:
    values: dict[str, Any] = {
        "pipeline": "doubling",
        "version": 7,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "digest": "sha256:0",
        "inputs": {"x": InputSpec(dtype="float32")},
        "heads": {"twice": HeadConfig(task="regression")},
        "serve": ServeConfig(),
        "provenance": Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    }
    return PackageManifest(**(values | changes))


@dataclass
class Running:
    """A server on a loopback port."""

    port: int
    service: PredictService
    connections: Connections
    loop: asyncio.AbstractEventLoop
    grpc_port: int | None = None

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Return status, headers (lower case) and the body, parsed if it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        assert len(found) == len(answer.getheaders()), f"a header twice: {answer.getheaders()}"
        is_json = found.get("content-type") == "application/json" and method != "HEAD"
        return answer.status, found, json.loads(content) if is_json else content

    def predict(self, body: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        return self.send("POST", "/v1/models/doubling:predict", body, headers)


@contextmanager
def run_server(
    manifest: PackageManifest,
    engine: Doubling | None = None,
    token: str | None = None,
    predictions: Path | None = None,
    labels: tuple[str, ...] = DEFAULT_LABELS,
    is_grpc: bool = False,
) -> Iterator[Running]:
    ready, stop = threading.Event(), threading.Event()
    found: list[Running] = []

    async def serve() -> None:
        metrics = ServerMetrics(manifest.pipeline, manifest.version)
        service = PredictService(manifest, metrics, labels)
        body_bytes = int(manifest.serve.max_body_mb * 2**20)
        handle = RestApi(service, token).handle
        connections = Connections(handle, body_bytes, b"x-slipway-version: 7\r\n")
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Connection(connections), "127.0.0.1", 0)
        log = None
        if engine is not None:
            control = Control(engine.call, {"x": np.ones(1, np.float32)})
            batcher = Batcher(engine.call, manifest.serve, fillers(manifest), metrics, control)
            metrics.watch_queue(lambda: batcher.waiting_rows)
            if predictions is not None:
                log = PredictionLog(predictions, manifest, metrics.observe_dropped)
            by_json, by_array = readers(manifest, engine), array_readers(manifest, engine)
            service.loaded = Loaded(batcher, by_json, by_array, engine.signatures, log)
        port = listener.sockets[0].getsockname()[1]
        front = None
        if is_grpc:
            front = GrpcFront(service, GrpcPorts("127.0.0.1", 0, token=token))
            await front.start()
        grpc_port = None if front is None else front.port
        found.append(Running(port, service, connections, loop, grpc_port))
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.01)
        if front is not None:
            await front.stop(1)
        if log is not None:
            log.close()
        listener.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture(scope="session")
def manifest() -> Callable[..., PackageManifest]:
    return make_manifest


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[Running]]:
    return run_server


@pytest.fixture(scope="session")
def serve_once() -> Callable[..., AbstractContextManager[Running]]:
    """Serve an engine that doubles over gRPC, too, for all tests of a module."""
    return lambda: run_server(make_manifest(), Doubling(), is_grpc=True)


@pytest.fixture
def engine() -> Doubling:
    return Doubling()


@pytest.fixture
def slow_engine() -> Doubling:
    """An engine that takes 0.2 s a call."""
    return Doubling(0.2)


@pytest.fixture
def server(engine: Doubling) -> Iterator[Running]:
    """The server that most tests talk to."""
    with run_server(make_manifest(), engine) as running:
        yield running
