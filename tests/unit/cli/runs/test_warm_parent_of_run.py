"""Which warm parent a local run takes: the services', its own, or none."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.runs import local_run
from cli.runs.local_run import LocalRun, warm_parent
from contract.command import StepCommand
from launching.processes.warm_start import own_warm_parent, reason_against, socket_of


@pytest.fixture(autouse=True)
def _imports_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_run, "preloaded_for", lambda _: ("contract.errors",))


@pytest.fixture
def run(tmp_path: Path) -> LocalRun:
    command = StepCommand("ingest", "digits", "local-1", str(tmp_path / "artifacts"))
    return LocalRun(command, tmp_path / "logs", dict(os.environ), is_deploying=False)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Path]:
    """A state folder with the warm parent of the services."""
    with own_warm_parent(dict(os.environ), tmp_path / "log", ("contract.errors",)) as socket:
        home = tmp_path / "home"
        socket_of(home).parent.mkdir(parents=True)
        socket_of(home).symlink_to(socket)
        yield home


def log_of(run: LocalRun) -> str:
    return (run.logs / "warm-parent.log").read_text(encoding="utf-8")


def test_the_services_warm_parent_serves_a_run(services: Path, run: LocalRun) -> None:
    with warm_parent(services, run) as parent:
        assert parent == socket_of(services)


def test_without_services_a_run_has_its_own(tmp_path: Path, run: LocalRun) -> None:
    with warm_parent(tmp_path, run) as parent:
        assert parent is not None
        assert reason_against(parent, run.environment) == ""
    assert not parent.exists()


def test_a_socket_that_a_killed_parent_left_is_not_taken(tmp_path: Path, run: LocalRun) -> None:
    left = socket_of(tmp_path)
    left.parent.mkdir()
    script = (
        f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind({left.name!r})"
    )
    subprocess.run([sys.executable, "-c", script], cwd=left.parent, check=True)
    with warm_parent(tmp_path, run) as parent:
        assert parent is not None
        assert parent != left
        assert reason_against(parent, run.environment) == ""
    assert "INFO the services' warm parent does not serve this run: no answer at" in log_of(run)


def test_a_run_with_other_variables_than_the_services_has_its_own(
    services: Path, run: LocalRun
) -> None:
    run.environment["OMP_NUM_THREADS"] = "77"  # type: ignore[index]
    with warm_parent(services, run) as parent:
        assert parent is not None
        assert parent != socket_of(services)
        assert reason_against(parent, run.environment) == ""
    assert "it was started with another OMP_NUM_THREADS" in log_of(run)


def test_without_a_place_for_a_socket_a_run_starts_without_a_parent(
    tmp_path: Path, run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with warm_parent(tmp_path, run) as parent:
        assert parent is None
    assert "INFO the run starts without a warm parent: [Errno 2]" in log_of(run)
