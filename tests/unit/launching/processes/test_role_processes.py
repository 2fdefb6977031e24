"""Several roles on one machine: real processes, small scripts in the trainer's place."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from alive import is_alive

from contract.schema.cluster import JobConfig
from launching.job_spec import JobSpec
from launching.processes.process_start import ProcessStart
from launching.processes.role_processes import under_mpirun
from launching.processes.step_process import StepProcess

PROJECT = Path(__file__).parents[4]
TASK = "import json, os, sys, time, socket; c = json.loads(os.environ['TF_CONFIG'])\n"
TASK += "role, index = c['task']['type'], c['task']['index']\n"


parent: Path | None = None


@pytest.fixture(autouse=True)
def _fresh_or_warm(warm_parent: Path | None) -> None:
    global parent
    parent = warm_parent


def start(script: str, folder: Path, **changes: Any) -> StepProcess:
    given = {
        "name": "j",
        "step": "train",
        "command": (sys.executable, "-c", TASK + script),
        "replicas": {"chief": 1, "worker": 2},
        "settings": JobConfig(max_restarts=1, restart_backoff_seconds=0.1),
    }
    job = JobSpec(**{**given, **changes})
    if job.is_mpi:
        job = under_mpirun(job)
    command = (sys.executable, "-m", "launching.processes.role_processes", job.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    start = ProcessStart(command, environment, folder, job.settings.grace_seconds)
    return StepProcess(start, folder / "lock", parent)


def run(script: str, folder: Path, **changes: Any) -> tuple[int, str]:
    process = start(script, folder, **changes)
    said = "\n".join(process.lines(lambda: None))
    return process.wait(), said


def starts(folder: Path, name: str) -> int:
    return len((folder / name).read_text()) if (folder / name).exists() else 0


COUNT = "open(f'{role}-{index}', 'a').write('x')\n"


def test_roles_find_each_other_by_tf_config_and_the_chiefs_end_is_the_jobs(tmp_path: Path) -> None:
    script = """
address = c['cluster'][role][index].rsplit(':', 1)
if role == 'worker':
    s = socket.create_server((address[0], int(address[1])))
    s.settimeout(20)
    s.accept()[0].sendall(f'{role}-{index}'.encode())
    time.sleep(600)
heard = []
for peer in c['cluster']['worker']:
    host, port = peer.rsplit(':', 1)
    for _ in range(200):
        try:
            heard.append(socket.create_connection((host, int(port))).recv(99).decode())
            break
        except OSError:
            time.sleep(0.05)
print('2026-01-01 10:00:00,000 WARNING heard', *heard)
"""
    code, said = run(script, tmp_path)
    assert code == 0, said
    assert "2026-01-01 10:00:00,000 WARNING [chief-0] heard worker-0 worker-1" in said


def test_processes_that_compute_divide_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "TF_NUM_INTRAOP_THREADS"
    monkeypatch.delenv(name, raising=False)
    cores = len(os.sched_getaffinity(0))
    script = f"open(f'{{role}}-{{index}}', 'w').write(os.environ['{name}'])\n"
    script += "while not os.path.exists('chief-0'): time.sleep(0.05)\n"
    assert run(script, tmp_path)[0] == 0
    assert (tmp_path / "chief-0").read_text() == str(max(1, cores // 3))
    with_servers = {"chief": 1, "worker": 1, "ps": 1}
    assert run(script, tmp_path, replicas=with_servers)[0] == 0
    assert (tmp_path / "chief-0").read_text() == str(cores)
    monkeypatch.setenv(name, "7")
    assert run(script, tmp_path)[0] == 0
    assert (tmp_path / "chief-0").read_text() == "7"


def test_a_killed_worker_restarts_the_whole_job_once(tmp_path: Path) -> None:
    script = COUNT + (
        "first = len(open(f'{role}-{index}').read()) == 1\n"
        "time.sleep(0.5)\n"
        "if first and role == 'worker' and index == 1: os.kill(os.getpid(), 9)\n"
        "if first: time.sleep(600)\n"
    )
    code, said = run(script, tmp_path)
    assert code == 0, said
    assert [starts(tmp_path, n) for n in ("chief-0", "worker-0", "worker-1")] == [2, 2, 2]
    assert "worker-1: exit code 137 (SIGKILL); starting chief-0, worker-0, worker-1 again" in said


def test_a_replaceable_worker_comes_back_alone_at_its_address(tmp_path: Path) -> None:
    script = COUNT + (
        "open(f'at-{role}-{index}', 'a').write(c['cluster'][role][index] + ' ')\n"
        "if role == 'chief':\n"
        "    while not os.path.exists('back'): time.sleep(0.05)\n"
        "elif index == 0 and len(open('worker-0').read()) == 1: sys.exit(1)\n"
        "elif index == 0: open('back', 'w'); time.sleep(600)\n"
        "else: time.sleep(600)\n"
    )
    code, said = run(script, tmp_path, replaceable=frozenset({"worker"}))
    assert code == 0, said
    assert [starts(tmp_path, n) for n in ("chief-0", "worker-0", "worker-1")] == [1, 2, 1]
    assert len(set((tmp_path / "at-worker-0").read_text().split())) == 1


def test_a_replica_that_hangs_by_the_chiefs_record_is_killed_and_replaced(tmp_path: Path) -> None:
    script = COUNT + (
        "if role == 'chief':\n"
        "    while not os.path.exists('worker-0'): time.sleep(0.05)\n"
        "    from datetime import UTC, datetime\n"
        "    from pathlib import Path\n"
        "    from contract.records.training import Hang\n"
        "    hang = Hang(role='worker-0', reason='not heard of', noted_at=datetime.now(UTC))\n"
        "    hang.write(Path('hangs/worker-0.json'))\n"
        "    while len(open('worker-0').read()) < 2: time.sleep(0.05)\n"
        "else: os.kill(os.getpid(), 19)\n"
    )
    hangs = str(tmp_path / "hangs")
    code, said = run(script, tmp_path, replaceable=frozenset({"worker"}), hangs=hangs)
    assert code == 0, said
    assert [starts(tmp_path, n) for n in ("chief-0", "worker-0", "worker-1")] == [1, 2, 1]


def test_words_about_a_hang_are_words_only(tmp_path: Path) -> None:
    script = COUNT + (
        "if role == 'chief':\n"
        "    while not os.path.exists('worker-0'): time.sleep(0.05)\n"
        "    print('train: worker-0 hangs: not heard of for 8 s', flush=True)\n"
        "    time.sleep(1)\n"
        "else: time.sleep(600)\n"
    )
    hangs = str(tmp_path / "hangs")
    code, said = run(script, tmp_path, replaceable=frozenset({"worker"}), hangs=hangs)
    assert code == 0, said
    assert [starts(tmp_path, n) for n in ("chief-0", "worker-0", "worker-1")] == [1, 1, 1]


def test_restarts_are_bounded_and_a_users_mistake_has_none(tmp_path: Path) -> None:
    code, said = run(COUNT + "sys.exit(3 if role == 'chief' else time.sleep(600))", tmp_path)
    assert (code, starts(tmp_path, "chief-0")) == (1, 2)
    assert "chief-0: exit code 3; role 'chief' was restarted 1 times" in said
    (tmp_path / "two").mkdir()
    code, said = run("sys.exit(2 if role == 'chief' else time.sleep(600))", tmp_path / "two")
    assert code == 2
    assert "ERROR job: chief-0: exit code 2" in said


def test_stopping_the_step_leaves_no_role_alive(tmp_path: Path) -> None:
    script = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(f'pid-{role}-{index}', 'w').write(str(os.getpid())); time.sleep(600)"
    )
    process = start(script, tmp_path, settings=JobConfig(grace_seconds=1))
    names = [tmp_path / f"pid-{n}" for n in ("chief-0", "worker-0", "worker-1")]
    wait_for(*names)
    pids = [int(n.read_text()) for n in names]
    process.stop()
    assert process.wait() != 0
    until = time.monotonic() + 60  # SIGKILL has been sent to all; the kernel takes its time
    while any(map(is_alive, pids)):
        assert time.monotonic() < until
        time.sleep(0.02)


PATIENT = JobConfig(grace_seconds=30)  # a busy machine takes seconds to end what has ended
SAVE = """
import signal
def save(*_):
    time.sleep({seconds})
    with open('saved', 'w') as file:
        file.write('x')
    sys.exit(1)
signal.signal(signal.SIGTERM, save if is_chief else {other})
with open(f'ready-{{name}}', 'w') as file:  # closed by a destructor, it would swallow the exit
    file.write('x')
time.sleep(600)
"""


def test_sigterm_gives_the_chief_the_jobs_grace_whoever_ends_before(tmp_path: Path) -> None:
    naming = "is_chief, name = role == 'chief', f'{role}-{index}'\n"
    process = start(
        naming + SAVE.format(seconds=1.0, other="lambda *_: sys.exit(1)"),
        tmp_path,
        settings=PATIENT,
    )
    wait_for(*(tmp_path / f"ready-{name}" for name in ("chief-0", "worker-0", "worker-1")))
    process.stop()
    assert process.wait() == 1
    assert (tmp_path / "saved").exists()


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun: apt install openmpi-bin")
def test_ranks_divide_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    script = "import os; print('threads ' + os.environ['TF_NUM_INTRAOP_THREADS'])"
    command = (sys.executable, "-c", script)
    code, said = run("", tmp_path, command=command, replicas={"worker": 2}, is_mpi=True)
    assert code == 0, said
    assert said.count(f"threads {max(1, len(os.sched_getaffinity(0)) // 2)}") == 2, said


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun: apt install openmpi-bin")
def test_mpirun_does_not_cut_the_grace_of_its_ranks_short(tmp_path: Path) -> None:
    naming = (
        "import os, sys, time\nname = os.environ['OMPI_COMM_WORLD_RANK']; is_chief = name == '0'\n"
    )
    script = naming + SAVE.format(seconds=2.5, other="lambda *_: None")  # it ends with the chief
    command = (sys.executable, "-c", script)
    process = start(
        "", tmp_path, command=command, replicas={"worker": 2}, is_mpi=True, settings=PATIENT
    )
    wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    process.stop()
    assert process.wait() == 1
    assert (tmp_path / "saved").exists()


def wait_for(*files: Path) -> None:
    until = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < until
        time.sleep(0.05)
