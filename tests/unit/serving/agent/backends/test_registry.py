"""A traffic backend is chosen by its name in the runtime file."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from contract.errors import ConfigError
from contract.schema.runtime import RuntimeConfig
from serving.agent.backends import registry
from serving.agent.backends.backend_kind import BackendKind, OpenBackend
from serving.agent.backends.registry import BACKENDS, backend_kind
from serving.agent.settings import ClusterSettings, MachineSettings, parse, traffic_backend_of
from serving.supervisord.configuration import Program


def toy(tmp_path: Path) -> BackendKind:
    def not_opened(*_: object) -> OpenBackend:
        raise AssertionError("only its programs are asked for")

    program = Program("toy", ("toy", "--serve"), tmp_path / "toy.log")
    return BackendKind(open=not_opened, programs=lambda _: [program])


def settings(tmp_path: Path, **more: Any) -> MachineSettings:
    return MachineSettings(
        root=tmp_path,
        home=tmp_path,
        port=1,
        token_file=tmp_path / "token",
        envoy_port=2,
        supervisor_socket=tmp_path / "s",
        **more,
    )


def test_envoy_is_what_a_runtime_file_without_the_key_asks_for() -> None:
    assert RuntimeConfig().traffic.backend in BACKENDS


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        ConfigError, match=r"'envoi': unknown; did you mean 'envoy'\? \(known: envoy"
    ):
        backend_kind("envoi")


def test_one_more_entry_is_all_that_a_backend_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "BACKENDS", MappingProxyType({"toy": toy(tmp_path)}))
    told = settings(tmp_path, traffic_backend="toy")
    again = parse(told.arguments())
    assert again == told
    programs = backend_kind(traffic_backend_of(again)).programs(told)
    assert [program.name for program in programs] == ["toy"]


def test_an_agent_in_a_cluster_reads_the_runtime_file(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime.yaml"
    runtime.write_text("kind: local\ntraffic:\n  backend: toy\n", encoding="utf-8")
    told = ClusterSettings(
        root=tmp_path,
        home=tmp_path,
        port=1,
        token_file=tmp_path / "token",
        envoy_port=2,
        runtime=runtime,
        envoy_token_file=tmp_path / "other",
    )
    assert traffic_backend_of(told) == "toy"
