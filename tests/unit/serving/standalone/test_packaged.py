"""The server of an imported package: all of it but TensorFlow; a model that halves."""

import asyncio
import gzip
import re
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio

from contract.free_ports import free_port
from contract.prediction_log.reading import predictions_of, read_tables
from contract.records.package import PackageManifest, Provenance, SignatureSpec, TensorSpec
from contract.schema.serving import ServeConfig
from contract.wire import open_inference
from contract.wire import tensorflow_serving as wire
from contract.wire.tensors import write_tensor
from serving.server.options import Options
from serving.standalone.packaged import PackagedServer

from .conftest import BROKEN, PATIENCE_SECONDS, Array, Halving

SERVER_READY = "/inference.GRPCInferenceService/ServerReady"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
VECTOR = TensorSpec(dtype="float32", shape=(None,))
TEXT = TensorSpec(dtype="string", shape=(None, None))
SIGNATURES = {
    "serving_default": SignatureSpec(method="predict", inputs={"x": VECTOR}, outputs={"y": VECTOR}),
    "classify": SignatureSpec(
        method="classify", inputs={"inputs": TEXT}, outputs={"classes": TEXT, "scores": VECTOR}
    ),
}
DRAINED_SOON_SECONDS = 0.2  # many polls of a test; a server that is idle has closed its port


class Slow(Halving):
    """Lets a test decide when it is loaded and when it answers."""

    may_load, is_asked, may_run = threading.Event(), threading.Event(), threading.Event()

    def __init__(self, folder: Path) -> None:
        self.may_load.wait(PATIENCE_SECONDS)
        super().__init__(folder)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.is_asked.set()
        self.may_run.wait(PATIENCE_SECONDS)
        return super().run(inputs, outputs)


class Running:
    """A server in this loop, and its callers."""

    def __init__(self, package: Path, **options: Any) -> None:
        self.port, self.handlers = free_port(), dict[int, Any]()
        self._socket = package / "socket"
        loop = asyncio.get_running_loop()
        # the process's border: a test has no signals of its own
        loop.add_signal_handler = self.handlers.__setitem__  # type: ignore[assignment, method-assign]
        server = PackagedServer(
            Options(package, self.port, **{"grpc_socket": self._socket, **options})
        )
        self.task = asyncio.create_task(server.run())

    def end(self) -> None:
        self.handlers[signal.SIGTERM]()

    async def predict(self, rows: int, value: float = 2.0, **call: Any) -> Any:
        while b"200 OK" not in await self.get("/healthz"):
            await asyncio.sleep(0.001)
        return await self.called(rows, value, **call)

    async def called(
        self, rows: int, value: float = 2.0, metadata: Sequence[tuple[str, str]] = ()
    ) -> Any:
        await until(self._socket.exists)
        request = wire.PredictRequest()
        request.model_spec.name = "half"
        write_tensor(request.inputs["x"], np.full(rows, value, np.float32))
        async with aio.insecure_channel(f"unix:{self._socket}") as channel:
            call = channel.unary_unary(PREDICT)
            answer = await call(
                request.SerializeToString(), metadata=metadata, timeout=PATIENCE_SECONDS
            )
        return list(wire.PredictResponse.FromString(answer).outputs["y"].float_val)

    async def is_ready(self) -> bool:
        request = open_inference.ServerReadyRequest().SerializeToString()
        async with aio.insecure_channel(f"unix:{self._socket}") as channel:
            answer = await channel.unary_unary(SERVER_READY)(request, timeout=PATIENCE_SECONDS)
        return bool(open_inference.ServerReadyResponse.FromString(answer).ready)

    async def get(self, path: str) -> bytes:
        return await self._sent(f"GET {path} HTTP/1.1\r\n".encode())

    async def post(self, path: str, zipped: bytes) -> bytes:
        return await self.send(path, zipped, "content-encoding: gzip")

    async def send(self, path: str, body: bytes, *headers: str) -> bytes:
        head = "\r\n".join([f"POST {path} HTTP/1.1", *headers, f"content-length: {len(body)}", ""])
        return await self._sent(head.encode(), body)

    async def _sent(self, head: bytes, body: bytes = b"") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head + b"host: x\r\nconnection: close\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("serving.standalone.packaged._opened", lambda _, folder: Slow(folder))
    monkeypatch.setattr("serving.server.http.port._POLL_SECONDS", 0.001)
    for event in ("may_load", "is_asked", "may_run"):
        monkeypatch.setattr(Slow, event, threading.Event())
    return packaged(
        tmp_path / "1", enable_batching=False, max_body_mb=0.001, prediction_log_inputs_ratio=1.0
    )


def packaged(folder: Path, **serve: Any) -> Path:
    (folder / "model").mkdir(parents=True)
    PackageManifest(
        pipeline="half",
        version=1,
        created_at=datetime.now(UTC),
        digest="sha256:0",
        format="saved_model",
        inputs={},
        heads={},
        signatures=SIGNATURES,
        serve=ServeConfig(drain_seconds=600.0, **serve),
        provenance=Provenance(run_id="import-1", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")
    return folder


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.001)


def test_a_draining_server_stays_open_while_a_call_of_grpc_is_answered(package: Path) -> None:
    async def main() -> list[float]:
        Slow.may_load.set()
        server = Running(package)
        call = asyncio.create_task(server.predict(1))
        await until(Slow.is_asked.is_set)
        server.end()
        await asyncio.sleep(DRAINED_SOON_SECONDS)
        assert b'{"status":"draining"}' in await server.get("/healthz")
        Slow.may_run.set()
        found: list[float] = await call
        await server.task
        return found

    assert asyncio.run(main()) == [2.0]


def test_requests_share_calls_of_the_model_and_one_that_fails_fails_alone(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Slow] = []

    def opened(_: Any, folder: Path) -> Slow:
        made.append(Slow(folder))
        return made[0]

    monkeypatch.setattr("serving.standalone.packaged._opened", opened)
    sizes = {"max_batch_size": 4, "batch_timeout_micros": int(PATIENCE_SECONDS * 1e6)}
    folder = packaged(tmp_path / "shared" / "1", enable_batching=True, **sizes)

    async def main() -> list[Any]:
        Slow.may_load.set()
        Slow.may_run.set()
        server = Running(folder)
        values = (2.0, BROKEN, 6.0, 8.0)  # the batch leaves when all four wait
        calls = [server.predict(1, value) for value in values]
        found = await asyncio.gather(*calls, return_exceptions=True)
        server.end()
        await server.task
        return found

    one, broken, *others = asyncio.run(main())
    assert (one, others) == ([2.0], [[4.0], [5.0]])
    assert (broken.code(), broken.details()) == (
        grpc.StatusCode.OUT_OF_RANGE,
        "minus one is out of range",
    )
    assert made[0].calls[0] == 4


def test_what_callers_get_is_in_the_prediction_log(package: Path, tmp_path: Path) -> None:
    async def main() -> None:
        Slow.may_load.set()
        Slow.may_run.set()
        token = tmp_path / "token"
        token.write_text("secret")
        server = Running(package, predictions=tmp_path / "log", token_file=token)
        named = (("x-request-id", "grpc"), ("x-slipway-arm", "canary"))
        allowed = ("authorization", "Bearer secret")
        assert await server.predict(2, metadata=[*named, allowed]) == [2.0, 2.0]
        with pytest.raises(aio.AioRpcError, match="one is out of range"):
            await server.called(1, BROKEN, [("x-request-id", "broken"), allowed])
        with pytest.raises(aio.AioRpcError, match="UNAUTHENTICATED"):
            await server.called(1, metadata=named)
        path, sent = "/v1/models/half:classify", "authorization: Bearer secret"
        asked = b'{"signature_name": "classify", "examples": [{"a": 1.0}]}'
        assert b"200 OK" in await server.send(path, asked, sent, "x-request-id: rest")
        refused = await server.send("/v1/models/half:predict", b"{", sent, "x-request-id: no")
        assert b" 400 " in refused
        server.end()
        await server.task

    asyncio.run(main())
    rows = [row for table in read_tables(tmp_path / "log") for row in predictions_of(table)]
    found = {(row.request_id, row.row): row for row in rows}
    assert {key: row.status for key, row in found.items()} == {
        ("grpc", 0): 200,
        ("grpc", 1): 200,
        ("broken", 0): 400,
        ("rest", 0): 200,
        ("no", 0): 400,
    }
    first = found["grpc", 0]
    assert (first.arm, first.signature, first.version) == ("canary", "serving_default", 1)
    assert first.outputs == {"y": (2.0,)}
    assert found["rest", 0].outputs["classes"] == (b"odd", b"even")
    assert len(found["rest", 0].outputs["scores"]) == 2
    assert (first.inputs, first.example) == ({"x": 2.0}, None)
    sent = wire.Example.FromString(found["rest", 0].example or b"")
    assert list(sent.features.feature["a"].float_list.value) == [1.0]
    assert found["broken", 0].inputs is None


def test_a_message_above_the_packages_limit_is_refused(package: Path) -> None:
    async def main() -> None:
        Slow.may_load.set()
        Slow.may_run.set()
        server = Running(package)
        assert await server.predict(2) == [2.0, 2.0]
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED.*larger than max"):
            await server.predict(1000)
        server.end()
        await server.task

    asyncio.run(main())


def test_a_compressed_body_inflates_to_no_more_than_the_packages_limit(package: Path) -> None:
    large = b'{"inputs": [], "parameters": {"x": "%b"}}' % (b"x" * 5000)

    async def main() -> list[bytes]:
        Slow.may_load.set()
        Slow.may_run.set()
        server = Running(package, grpc_socket=None)
        while b"200 OK" not in await server.get("/healthz"):
            await asyncio.sleep(0.001)
        paths = ("/v1/models/half:predict", "/v2/models/half/infer")
        found = [await server.post(path, gzip.compress(large)) for path in paths]
        server.end()
        await server.task
        return found

    for answer in asyncio.run(main()):
        assert b" 413 " in answer.split(b"\r\n")[0], answer


def test_a_draining_server_says_over_grpc_that_it_is_not_ready(package: Path) -> None:
    async def main() -> list[bool]:
        Slow.may_load.set()
        server = Running(package)
        call = asyncio.create_task(server.predict(1))
        await until(Slow.is_asked.is_set)
        before = await server.is_ready()
        server.end()
        while b"draining" not in await server.get("/healthz"):
            await asyncio.sleep(0)
        after = await server.is_ready()
        Slow.may_run.set()
        await call
        await server.task
        return [before, after]

    assert asyncio.run(main()) == [True, False]


def test_port_0_of_grpc_takes_a_free_one_and_says_which(
    package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> int:
        server = Running(package, grpc_socket=None, grpc_port=0)
        await until(lambda: "gRPC at" in caplog.text)
        (port,) = re.findall(r"gRPC at 127.0.0.1:(\d+)", caplog.text)
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
        Slow.may_load.set()
        server.end()
        await server.task
        return int(port)

    with caplog.at_level("INFO", "slipway"):
        assert asyncio.run(main()) > 0


def test_a_call_of_grpc_while_the_model_loads_may_be_tried_again(package: Path) -> None:
    async def main() -> aio.AioRpcError:
        server = Running(package)
        await until(lambda: bool(server.handlers))
        with pytest.raises(aio.AioRpcError) as refusal:
            await server.called(1)
        assert (package / "socket").stat().st_mode & 0o777 == 0o600
        Slow.may_load.set()
        server.end()
        await server.task
        return refusal.value

    error = asyncio.run(main())
    assert (error.code(), error.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "the model is still loading; try again",
    )
    assert ("x-slipway-loading", "1") in tuple(error.trailing_metadata())


def test_a_server_that_ends_before_it_has_loaded_says_that_it_is_loading(package: Path) -> None:
    """So the proxy asks another one; 404 would be the caller's fault."""

    async def main() -> bytes:
        server = Running(package, leave_seconds=600.0, grpc_socket=None)
        await until(lambda: bool(server.handlers))
        server.end()
        while b"draining" not in await server.get("/healthz"):
            await asyncio.sleep(0)
        answer = await server.get("/v1/models/half")
        server.task.cancel()
        Slow.may_load.set()
        return answer

    answer = asyncio.run(main())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"x-slipway-loading: 1" in answer
