"""Which command trains on this machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.command import StepCommand
from contract.errors import ConfigError
from contract.layout import RunLayout
from contract.loader import freeze_pipeline
from contract.pipelines import find_pipeline
from contract.schema.cluster import ProcessJobConfig
from launching.job_spec import JobSpec
from launching.processes.role_processes import command_line


def command_of(root: Path, step: str = "train", **overrides: Any) -> list[str]:
    run = RunLayout(root, "digits", "r1")
    wanted = {f"train.{key}": value for key, value in overrides.items()}
    freeze_pipeline(find_pipeline("digits"), run, wanted)
    return command_line(StepCommand(step, "digits", "r1", str(root)), run)


def job_of(command: list[str]) -> JobSpec:
    assert command[1:3] == ["-m", "launching.processes.role_processes"]
    return JobSpec.model_validate(json.loads(command[3]), strict=False)


def test_a_single_trainer_and_every_other_step_run_without_a_launcher(tmp_path: Path) -> None:
    assert command_of(tmp_path / "a")[1:3] == ["-m", "components.train"]
    other = command_of(tmp_path / "b", "transform", strategy="multi_worker")
    assert other[1:3] == ["-m", "components.transform"]


def test_several_roles_run_under_one_launcher(tmp_path: Path) -> None:
    job = job_of(command_of(tmp_path, strategy="multi_worker", workers=3))
    assert job.replicas == {"chief": 1, "worker": 2}
    assert job.command[1:3] == ("-m", "components.train")


def test_ranks_run_under_mpirun_and_die_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    mpirun = tmp_path / "bin" / "mpirun"
    mpirun.write_text("#!/bin/sh\n")
    mpirun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{mpirun.parent}:/usr/bin:/bin")
    job = job_of(command_of(tmp_path / "root", strategy="mpi", workers=4))
    assert job.replicas == {"chief": 1}
    words = list(job.command)
    assert words[:4] == ["setpriv", "--pdeathsig", "KILL", str(mpirun)]
    at = words.index("-n")
    assert words[at : at + 5] == ["-n", "4", "setpriv", "--pdeathsig", "KILL"]


def test_the_runtimes_job_settings_are_the_launchers(tmp_path: Path) -> None:
    run = RunLayout(tmp_path, "digits", "r1")
    freeze_pipeline(find_pipeline("digits"), run, {"train.strategy": "multi_worker"})
    settings = ProcessJobConfig(grace_seconds=40, max_restarts=7)
    command = command_line(StepCommand("train", "digits", "r1", str(tmp_path)), run, settings)
    assert (job_of(command).settings.grace_seconds, job_of(command).settings.max_restarts) == (
        40,
        7,
    )


def test_mpi_without_mpirun_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no 'mpirun' on PATH; install OpenMPI"):
        command_of(tmp_path, strategy="mpi")
