"""Slipway's own client (`slipway.client`) against a server, over REST and gRPC alike."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from contract.errors import ConfigError, NotFoundError, ServiceUnavailableError, UserError
from contract.free_ports import free_port
from contract.records.package import InputSpec
from serving.server.engines.engine import Columns, Outputs, Signature, TensorInfo
from slipway.client import Client, Connecting

INPUTS = {
    "x": InputSpec(dtype="float32", default=1.5),
    "items": InputSpec(dtype="int64", is_variable_length=True),
}


class Counting:
    """An engine of two outputs: twice `x`, and how many items a row has."""

    def __init__(self) -> None:
        x, items = TensorInfo("x", "float32", (None,)), TensorInfo("items", "int64", (None, None))
        value = TensorInfo("value", "float32", (None,))
        count = TensorInfo("count", "int64", (None,))
        outputs = {"value": value, "count": count}
        self.signatures = {"serving_default": Signature({"x": x, "items": items}, outputs)}

    def call(self, _signature: str, columns: Columns) -> Outputs:
        counts = (columns["items"] != -(2**63)).sum(axis=1)
        return {"value": 2 * columns["x"], "count": counts}


@pytest.fixture(params=["http", "grpc"])
def url(request: Any, serve: Any, manifest: Any) -> Iterator[str]:
    with serve(manifest(inputs=INPUTS), Counting(), token="s3cret", is_grpc=True) as server:
        port = server.port if request.param == "http" else server.grpc_port
        yield f"{request.param}://127.0.0.1:{port}"


def test_lists_are_answered_by_arrays_and_the_version(url) -> None:
    with Client(url, "doubling", token="s3cret") as doubling:
        found = doubling.predict({"x": [1, 2.5, -3], "items": [[7], [], [8, 9]]})
    assert found.version == 7
    assert {name: (a.dtype, a.tolist()) for name, a in found.outputs.items()} == {
        "value": (np.float32, [2.0, 5.0, -6.0]),
        "count": (np.int64, [1, 0, 2]),
    }


def test_one_output_of_a_version_is_asked_for(url) -> None:
    with Client(url, "doubling", version=7, token="s3cret") as doubling:
        found = doubling.predict({"items": [[7]]}, outputs=["value"])
    assert {name: array.tolist() for name, array in found.outputs.items()} == {"value": [3.0]}


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ({"y": [1]}, {}, "inputs: unknown input 'y'; expected 'items', 'x'|'x', 'items'"),
        ({"x": ["one"]}, {}, "inputs.x: not float32: found <U3"),
        ({"x": [1]}, {"outputs": ["values"]}, "unknown output 'values'; did you mean 'value'"),
        ({"x": [1]}, {"signature": "no"}, "unknown signature 'no'; expected 'serving_default'"),
        ({"x": [float("inf")]}, {}, "doubling: inputs"),
        ({"x": []}, {}, "doubling: inputs"),
    ],
)
def test_the_callers_fault_is_a_user_error(url, inputs, options, words) -> None:
    with (
        Client(url, "doubling", token="s3cret") as doubling,
        pytest.raises(UserError, match=words),
    ):
        doubling.predict(inputs, **options)


def test_another_model_or_version_is_not_found(url) -> None:
    for asked in ({"model": "other"}, {"model": "doubling", "version": 8}):
        with (
            Client(url, token="s3cret", **asked) as client,
            pytest.raises(NotFoundError, match="this server has version 7 of 'doubling'"),
        ):
            client.predict({"x": [1]})


def test_a_wrong_token_is_said(url) -> None:
    with (
        Client(url, "doubling", token="wrong") as doubling,
        pytest.raises(UserError, match="doubling: expected the .*uthorization: Bearer <token>"),
    ):
        doubling.predict({"x": [1]})


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_at_the_address_is_said(scheme) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with (
        Client(url, "doubling", connecting=Connecting(timeout_seconds=1)) as doubling,
        pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1"),
    ):
        doubling.predict({"x": [1]})


def test_a_url_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="ftp://x: expected one of http, https, grpc, grpcs, un"):
        Client("ftp://x", "doubling")
