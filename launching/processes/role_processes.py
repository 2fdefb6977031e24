"""A job's roles as processes of this machine: `python -m launching.processes.role_processes SPEC`.

It is itself one command, which `StepProcess` runs in a separate process group: everything below
ends with that group. What the roles print comes out prefixed; the exit code is the job's.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from contract.command import StepCommand
from contract.errors import EXIT_UNEXPECTED, ConfigError
from contract.free_ports import free_ports
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.schema.cluster import JobConfig, ProcessJobConfig, Role
from launching.hangs import hanging
from launching.job_spec import JobSpec, Replica, in_words, job_of, tf_config
from launching.log_lines import prefixed
from launching.processes.forked_child import ForkedChild, fork_child
from launching.processes.python_command import is_forkable, is_forked
from launching.processes.readable import readable
from launching.restarts import End, JobEnd, Restart, decide

THREADS = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's: of one operation; by default all cores

_Process = subprocess.Popen[bytes] | ForkedChild

_POLL_SECONDS = 0.05
_BLOCK_BYTES = 1 << 16
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
_END_SECONDS = 2.0  # for what is left of a job that is over, or starts again: nothing to save


def command_line(
    command: StepCommand, run: RunLayout, settings: ProcessJobConfig | None = None
) -> list[str]:
    """Return what runs a step on this machine: one process, or a job of several.

    Raises:
        ConfigError: If MPI is required and not installed.
    """
    if not run.frozen_pipeline.exists():
        return command.arguments()
    name = f"{command.pipeline}-{command.step}"
    job_settings = JobConfig(**settings.model_dump()) if settings else JobConfig()
    job = job_of(name, command, load_frozen(run), job_settings, sys.executable)
    if job is not None and job.is_mpi:
        job = under_mpirun(job)
    elif job is None or job.is_alone:
        return command.arguments()
    return [sys.executable, "-m", "launching.processes.role_processes", job.model_dump_json()]


def under_mpirun(job: JobSpec) -> JobSpec:
    """One process for the policy: `mpirun`, which starts the ranks and ends them together."""
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        raise ConfigError(
            ["train.strategy: mpi: no 'mpirun' on PATH; install OpenMPI (apt install openmpi-bin)"]
        )
    options = ["--oversubscribe", "--bind-to", "none", "--tag-output"]
    if os.geteuid() == 0:
        options.append("--allow-run-as-root")
    # The ranks leave mpirun's process group, and it leaves ours; so they are made to die in turn.
    ranks = ["-n", str(job.replicas["worker"]), *_DIE_WITH_PARENT, *job.command]
    threads = ["-x", f"{THREADS}={threads_each(job)}"]
    command = (*_DIE_WITH_PARENT, mpirun, *options, *threads, *ranks)
    return job.model_copy(update={"command": command, "replicas": {"chief": 1}})


@dataclass
class ProcessJob:
    """The processes of one job."""

    job: JobSpec
    used: dict[Role, int] = field(default_factory=dict)
    stop_at: float | None = None  # when whatever still runs is killed, once a signal has come
    _running: dict[Replica, _Process] = field(default_factory=dict)
    _started: dict[Replica, datetime] = field(default_factory=dict)
    _addresses: dict[Replica, str] = field(default_factory=dict)
    _ends: list[End] = field(default_factory=list)
    _outputs: list["_Output"] = field(default_factory=list)

    def run(self) -> JobEnd:
        """Run until the job is over; nothing of it is left then."""
        _say("INFO", f"job: {in_words(self.job.replicas)}")
        try:
            self._start(tuple(self.job.members()))
            return self._follow()
        finally:
            self._stop(tuple(self._running))
            self._copy_until(lambda: not self._outputs, _END_SECONDS)

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """Start nothing more and pass the signal on; the chief then saves what it has."""
        del frame
        self.stop_at = self.stop_at or time.monotonic() + self.job.settings.grace_seconds
        for process in self._running.values():
            for pid in _ranks(process.pid) if self.job.is_mpi else (process.pid,):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)

    def _follow(self) -> JobEnd:
        while True:
            self._copy(_POLL_SECONDS)
            self._note_ends()
            self._kill_who_hangs()
            if self.stop_at is not None and (not self._running or time.monotonic() > self.stop_at):
                return JobEnd(EXIT_UNEXPECTED, "stopped from outside")
            decision = decide(self.job, self._ends, self.used)
            if isinstance(decision, JobEnd):
                return decision
            if decision is not None and self.stop_at is None:
                self._restart(decision)

    def _note_ends(self) -> None:
        for replica, process in list(self._running.items()):
            if (code := process.poll()) is not None:
                del self._running[replica]
                killed = signal.Signals(-code).name if code < 0 else ""
                self._ends.append(End(replica, code if code >= 0 else 128 - code, killed))

    def _kill_who_hangs(self) -> None:
        for replica in hanging(self.job, {r: self._started[r] for r in self._running}):
            self._running[replica].kill()

    def _restart(self, restart: Restart) -> None:
        names = ", ".join(map(str, restart.replicas))
        wait = f"starting {names} again in {restart.after_seconds:g} s"
        _say("WARNING", f"job: {restart.reason}; {wait}")
        self._stop(tuple(r for r in restart.replicas if r in self._running))
        self._copy_until(lambda: False, restart.after_seconds)
        self.used = dict(restart.used)
        self._ends = [end for end in self._ends if end.replica not in restart.replicas]
        if self.stop_at is None:
            self._start(restart.replicas)

    def _start(self, replicas: tuple[Replica, ...]) -> None:
        if set(replicas) == set(self.job.members()):
            ports = free_ports(len(replicas))
            self._addresses = {r: f"127.0.0.1:{p}" for r, p in zip(replicas, ports, strict=True)}
        for replica in replicas:
            self._started[replica] = datetime.now(UTC)
            process = self._spawn(self._environment(replica))
            self._running[replica] = process
            self._outputs.append(_Output(replica, process))

    def _spawn(self, environment: dict[str, str]) -> _Process:
        """Start a replica in this process's group: a fork, if this process is one and it can be."""
        if is_forked() and is_forkable(self.job.command):
            unwanted = [output.descriptor for output in self._outputs]
            return fork_child(self.job.command, environment, unwanted)
        return subprocess.Popen(
            self.job.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=self.job.is_mpi,
        )

    def _environment(self, replica: Replica) -> dict[str, str]:
        if self.job.is_alone:
            return dict(os.environ)
        return {
            **os.environ,
            "TF_CONFIG": tf_config(self.job, replica, self._addresses.__getitem__),
            THREADS: threads_each(self.job),
        }

    def _copy(self, seconds: float) -> None:
        """Copy what the replicas print within a time, except their last, unfinished lines."""
        by_descriptor = {output.descriptor: output for output in self._outputs}
        for descriptor in readable(by_descriptor, seconds):
            output = by_descriptor[descriptor]
            for line in output.lines():
                text = line.decode(errors="replace").rstrip()
                _write(text if self.job.is_alone else prefixed(text, str(output.replica)))
            if output.is_over:
                self._outputs.remove(output)

    def _copy_until(self, is_done: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not is_done() and (left := until - time.monotonic()) > 0:
            self._copy(min(left, _POLL_SECONDS))

    def _stop(self, replicas: tuple[Replica, ...]) -> None:
        processes = [self._running.pop(replica) for replica in replicas]
        for process in processes:
            process.terminate()
        self._copy_until(lambda: all(p.poll() is not None for p in processes), _END_SECONDS)
        for process in processes:
            process.kill()
            process.wait()


class _Output:
    """What a replica prints, by lines."""

    def __init__(self, replica: Replica, process: _Process) -> None:
        assert process.stdout is not None
        self.replica = replica
        self.descriptor = process.stdout.fileno()
        self.is_over = False
        self._stdout = process.stdout  # closed with this
        self._rest = b""

    def lines(self) -> list[bytes]:
        """Read once and return the lines that are whole; at the end also what is left."""
        block = os.read(self.descriptor, _BLOCK_BYTES)
        *lines, self._rest = (self._rest + block).split(b"\n")
        if not block:
            self.is_over = True
            self._stdout.close()
            return [self._rest] if self._rest else []
        return lines


def threads_each(job: JobSpec) -> str:
    """Return how many threads TensorFlow may use in each process, unless the user has said it.

    Processes of one machine that compute in step would take its cores from each other. Beside
    parameter servers only the workers compute.
    """
    computing = job.replicas["worker"] if "ps" in job.replicas else sum(job.replicas.values())
    return os.environ.get(THREADS, str(max(1, len(os.sched_getaffinity(0)) // computing)))


def _ranks(mpirun: int) -> list[int]:
    """Return the processes that `mpirun` has started, else itself.

    It would pass SIGTERM on too, but only after a second, and a second before SIGKILL.
    """
    children = Path(f"/proc/{mpirun}/task/{mpirun}/children")
    found = children.read_text(encoding="utf-8").split() if children.exists() else ()
    return [int(pid) for pid in found] or [mpirun]


def _say(level: str, text: str) -> None:
    _write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {level} {text}")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the job that the command line describes and exit with its code."""
    running = ProcessJob(JobSpec.model_validate_json(sys.argv[1]))
    signal.signal(signal.SIGTERM, running.stop)
    end = running.run()
    _say("INFO" if end.is_good else "ERROR", f"job: {end.reason}")
    sys.exit(end.exit_code)


if __name__ == "__main__":
    main()
