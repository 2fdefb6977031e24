"""What the process makes of its flags; TLS over a real socket."""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from contract.errors import ConfigError
from contract.wire import tensorflow_serving as wire
from contract.wire.tensors import write_tensor
from serving.standalone.configuration import ModelConfig
from serving.standalone.flags import Flags
from serving.standalone.process import StandaloneServer, channel_arguments, credentials, repeated

from .conftest import running, version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (
            "grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb,grpc.x=-1",
            [
                ("grpc.max_connection_age_ms", 2000),
                ("grpc.lb_policy_name", "grpclb"),
                ("grpc.x", -1),
            ],
        ),
    ],
)
def test_arguments_of_the_grpc_server_are_numbers_where_they_can_be(
    text: str, expected: list[Any]
) -> None:
    assert channel_arguments(text) == expected


def test_polling_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    async def work() -> None:
        done.append(1)
        if len(done) == 1:
            raise ValueError("on purpose")
        if len(done) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(repeated(0.0, work))
    assert len(done) == 3
    assert "background work failed; it is tried again in 0 seconds" in caplog.text
    assert "ValueError: on purpose" in caplog.text


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A key and its certificate, PEM."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key.read_text(), certificate.read_text()


def tls_config(folder: Path, key: str, certificate: str, more: str = "") -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\n", "\\n") + '"'

    file = folder / "ssl.config"
    fields = f"server_key: {quoted(key)} server_cert: {quoted(certificate)} "
    file.write_text(fields + (f"custom_ca: {quoted(certificate)} {more}" if more else ""))
    return str(file)


def predicted(socket: Path, trusted: grpc.ChannelCredentials) -> float:
    request = wire.PredictRequest()
    request.model_spec.name = "m"
    write_tensor(request.inputs["x"], np.array([2.0], np.float32))
    named = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(f"unix:{socket}", trusted, named) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        answer = wire.PredictResponse.FromString(call(request.SerializeToString(), timeout=60))
    return float(answer.outputs["y"].float_val[0])


def test_grpc_speaks_tls_by_the_files_certificate(tmp_path: Path, pair: tuple[str, str]) -> None:
    version(tmp_path / "m", 1)
    socket = tmp_path / "s"
    made = credentials(tls_config(tmp_path, *pair))
    with running(rpc={"socket": str(socket), "credentials": made}) as program:
        program.serve(ModelConfig("m", tmp_path / "m"))
        trusted = grpc.ssl_channel_credentials(pair[1].encode())
        assert predicted(socket, trusted) == 2.0


def test_a_caller_without_a_certificate_is_refused_where_one_is_asked_for(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    version(tmp_path / "m", 1)
    socket = tmp_path / "s"
    made = credentials(tls_config(tmp_path, *pair, "client_verify: true"))
    with running(rpc={"socket": str(socket), "credentials": made}) as program:
        program.serve(ModelConfig("m", tmp_path / "m"))
        key, certificate = (one.encode() for one in pair)
        with pytest.raises(grpc.RpcError) as refusal:
            predicted(socket, grpc.ssl_channel_credentials(certificate))
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        known = grpc.ssl_channel_credentials(certificate, key, certificate)
        assert predicted(socket, known) == 2.0


def test_clients_cannot_be_verified_by_nobodys_certificates(tmp_path: Path) -> None:
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "k" server_cert: "c" client_verify: true')
    with pytest.raises(ConfigError, match=r"ssl\.config: client_verify: found no custom_ca; write"):
        credentials(str(file))


def test_without_a_file_there_is_no_tls() -> None:
    assert credentials("") is None


@pytest.mark.parametrize(
    "flag", ["ssl_config_file", "batching_parameters_file", "monitoring_config_file"]
)
def test_a_file_that_is_not_there_is_told_before_anything_is_loaded(
    tmp_path: Path, flag: str
) -> None:
    values: dict[str, Any] = {flag: str(tmp_path / "none")}
    flags = Flags(model_base_path=str(tmp_path), enable_batching=True, **values)
    with pytest.raises(ConfigError, match="none: cannot be read"):
        StandaloneServer(flags)
