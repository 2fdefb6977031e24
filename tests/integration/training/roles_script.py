"""One process of several trainings, one after the other: `python roles_script.py PLAN.json`.

The plan is a list of `{"root", "run_id", "kind", "index", "addresses"}`; an empty kind is one in
which this process has no part. Under `mpirun` the rank decides. What the chief reports at each
step goes to `history.json` in the run's folder, and why a process failed to `ROLE.txt`; with
`"resumes"` it goes on from checkpoint 5 of that run. Starting TensorFlow costs more than what is
tried.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from components.runs.tracking import Tracker
from components.train.member import take_part
from components.train.peers.collectives import leave_mpi
from components.train.train import TrainingJob, train
from contract.errors import UserError
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.data import TransformRecord
from contract.records.record import Result
from contract.roles import Role, role_of
from contract.storage import Attempt


class History(Tracker):
    """Keeps what would go to MLflow."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, float]] = []

    def log_metrics(
        self, values: Mapping[str, float], step: int = 0, logged_at: datetime | None = None
    ) -> None:
        del logged_at
        cpu_seconds = time.process_time()
        self.kept.append({**values, "step": step, "cpu_seconds": cpu_seconds})


def main() -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    for part in json.loads(Path(sys.argv[1]).read_text()):
        role = role_of(os.environ)
        if not role.mpi_size:
            if not part["kind"]:
                continue
            addresses = {kind: tuple(found) for kind, found in part["addresses"].items()}
            role = Role(part["kind"], part["index"], addresses)
        run = RunLayout(Path(part["root"]), "tiny", part["run_id"])
        if role.is_chief and (other := part.get("resumes")):
            step = replace(run, run_id=other).checkpoint(5)
            shutil.copytree(step, run.checkpoint(5))
        try:
            lead(run, role) if role.is_chief else take_part(role, run)
        except UserError as error:
            (run.path / f"{role.name}.txt").write_text(str(error))
    leave_mpi()
    sys.stdout.flush()
    os._exit(0)


def lead(run: RunLayout, role: Role) -> None:
    history = History()
    transformed = Result.read(run.result("transform")).detail_as(TransformRecord)
    attempt = Attempt.claim(run.attempts("train"))
    train(TrainingJob(load_frozen(run), run, transformed, attempt, history, role))
    (run.path / "history.json").write_text(json.dumps(history.kept))


if __name__ == "__main__":
    main()
