"""A real PostgreSQL server in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contract.free_ports import free_port


@dataclass
class Postgres:
    """A server of its own in a folder of its own, which root runs as another user."""

    programs: Path
    folder: Path
    user: str | None
    port: int = field(default_factory=free_port)
    is_lasting: bool = False  # a test needs nothing that outlasts a power cut

    @property
    def url(self) -> str:
        return f"postgresql://labels@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), "--pgdata", str(self.folder / "data"), *words]
        subprocess.run(
            command, user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL
        )

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c fsync={'on' if self.is_lasting else 'off'}"
        log = str(self.folder / "log")
        self.run(
            "pg_ctl", "start", "--wait", "--timeout", "300", "--log", log, "--options", options
        )

    def sql(self, statement: str, database: str = "postgres") -> None:
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "labels", database]
        subprocess.run([str(self.programs / "psql"), *address, "-qc", statement], check=True)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "--wait", "--mode", "immediate")


@contextmanager
def running_postgres(is_lasting: bool = False) -> Iterator[Postgres]:
    """Yield a started server; skip the test where none is installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not installed:
        pytest.skip("no PostgreSQL server (Debian: apt-get install postgresql)")
    folder, user = Path(tempfile.mkdtemp(prefix="slipway-labels-")), None
    if os.geteuid() == 0:
        user = "postgres"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    server = Postgres(installed[-1].parent, folder, user, is_lasting=is_lasting)
    try:
        server.run("initdb", "--username", "labels", "--auth", "trust", "--no-sync")
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
