"""What supervisord is told, read back by supervisord's own parser."""

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from alive import is_alive
from supervisor.options import ServerOptions

from contract.errors import ConfigError, ServiceUnavailableError
from serving.supervisord.configuration import (
    Program,
    short_socket,
    socket_path,
    write_configuration,
)
from serving.supervisord.supervision import Supervisor


def read_back(configuration: Path):
    """Return supervisord's own view of a configuration: its programs by name."""
    options = ServerOptions()
    options.realize(["-c", str(configuration)])
    return {group.name: group.process_configs[0] for group in options.process_group_configs}


def test_supervisord_reads_back_what_was_written(tmp_path) -> None:
    home = tmp_path / "a home with spaces"
    command = ("/bin/program", "--text", "50 % of 'it'", "--path", "a b", 'say "hello"')
    environment = {"RATIO": "90%", "LIST": "a,b c", "QUOTE": 'x"y"z', "EMPTY": ""}
    program = Program(
        name="server-1",
        command=command,
        log_file=home / "logs" / "server.log",
        environment=environment,
        directory=tmp_path,
        start_seconds=7,
        stop_wait_seconds=11,
        stop_signal="INT",
    )
    seen = read_back(write_configuration(home, [program]))["server-1"]
    assert tuple(shlex.split(seen.command))[-len(command) :] == command
    assert {key: seen.environment[key] for key in environment} == environment
    assert (seen.startsecs, seen.stopwaitsecs, seen.stopsignal.name) == (7, 11, "SIGINT")
    assert seen.stdout_logfile == str(program.log_file)
    assert seen.directory == str(tmp_path)


def test_a_second_call_drops_programs_that_are_not_named_again(tmp_path) -> None:
    one, two = (Program(n, ("/bin/true",), tmp_path / "logs" / n) for n in ("one", "two"))
    write_configuration(tmp_path, [one, two])
    assert read_back(write_configuration(tmp_path, [two])).keys() == {"two"}


@pytest.mark.parametrize("text", ["a ;b", "a #b", "a\nb"])
def test_what_supervisord_would_read_as_a_comment_is_refused(tmp_path, text) -> None:
    program = Program("one", ("/bin/echo", text), tmp_path / "log")
    with pytest.raises(ConfigError, match="program 'one': supervisord cannot hold"):
        write_configuration(tmp_path, [program])


@pytest.mark.parametrize("value", ["both ' and \"", "'ends'"])
def test_environment_values_with_odd_quotes_are_refused(tmp_path, value) -> None:
    program = Program("one", ("/bin/true",), tmp_path / "log", environment={"KEY": value})
    with pytest.raises(ConfigError, match="environment value with such quotes"):
        write_configuration(tmp_path, [program])


def test_programs_are_for_their_owner_alone(tmp_path) -> None:
    write_configuration(tmp_path, [Program("one", ("/bin/true",), tmp_path / "log")])
    assert (tmp_path / "conf.d" / "one.conf").stat().st_mode & 0o077 == 0


@pytest.fixture
def runtime_folder(monkeypatch) -> Iterator[Path]:
    """A folder for sockets whose path is short."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


def test_a_long_home_gets_a_short_socket_of_its_own(runtime_folder: Path) -> None:
    assert socket_path(Path("/short")) == Path("/short/supervisor.sock")
    long, other = (Path("/") / (letter * 120) for letter in "ab")
    assert socket_path(long).parent == runtime_folder / f"slipway-{os.geteuid()}"
    assert socket_path(long).parent.stat().st_mode & 0o777 == 0o700
    assert len(str(socket_path(long))) < 100
    assert socket_path(long) != socket_path(other)
    assert short_socket(Path("/short/envoy.sock")) == Path("/short/envoy.sock")
    envoys = {short_socket(long / name) for name in ("envoy.sock", "envoy-2.sock")}
    assert len({*envoys, socket_path(long)}) == 3


@pytest.mark.parametrize("name", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_where_folders_for_sockets_are_long_as_well_they_are_in_tmp(
    tmp_path, monkeypatch, name
) -> None:
    folder = tmp_path / ("c" * 90)
    folder.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)  # forget what TMPDIR was
    monkeypatch.setenv(name, str(folder))
    assert socket_path(folder).parent == Path(f"/tmp/slipway-{os.geteuid()}")
    assert socket_path(folder) != socket_path(tmp_path / ("d" * 90))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_a_folder_for_sockets_that_is_somebody_elses_is_refused(
    runtime_folder: Path, kind: str
) -> None:
    planted = runtime_folder / f"slipway-{os.geteuid()}"
    if kind == "folder":
        planted.mkdir(mode=0o777)
        os.chown(planted, 65534, 65534)
    elif kind == "link":
        planted.symlink_to(runtime_folder)
    else:
        planted.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"expected a folder of user {os.geteuid()}, found"):
        socket_path(Path("/") / ("a" * 120))


def test_a_supervisord_that_does_not_run_is_said_so(tmp_path) -> None:
    supervisor = Supervisor(tmp_path)
    assert not supervisor.is_running()
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        supervisor.states()


@pytest.mark.parametrize("is_removed", [True, False], ids=["remove", "stop"])
def test_an_adopted_program_that_nobody_keeps_is_ended_all_the_same(tmp_path, is_removed) -> None:
    """As if its keeper was told to end before it could pass a signal on."""
    supervisor = Supervisor(tmp_path)
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    write_configuration(tmp_path, [])
    program = Program(
        "one", command, tmp_path / "log", is_restarted=False, start_seconds=0, is_adopted=True
    )
    supervisor.start()
    try:
        supervisor.add(program)
        until(lambda: "boot+" in supervisor.states()["one"].process)  # it is noted
        pid = supervisor.states()["one"].pid
        daemon = psutil.Process(int((tmp_path / "supervisord.pid").read_text()))
        daemon.kill()
        until(lambda: not supervisor.is_running())
        supervisor.start()
        until(lambda: "adopted" in (tmp_path / "log").read_text())
        daemon = psutil.Process(int((tmp_path / "supervisord.pid").read_text()))
        (keeper,) = daemon.children()
        keeper.kill()
        until(lambda: supervisor.states()["one"].state == "EXITED")
        assert is_alive(pid)
        if is_removed:
            until(lambda: supervisor.remove("one"))
            assert not is_alive(pid)
    finally:
        supervisor.stop()
    assert not is_alive(pid)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
