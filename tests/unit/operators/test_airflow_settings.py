import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER
from operators.airflow_settings import AirflowHome, airflow_environment, airflow_processes


def test_the_password_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path / "airflow", 8080)
    password = home.password()
    assert AirflowHome(tmp_path / "airflow", 8081).password() == password
    assert json.loads(home.password_file.read_text()) == {"admin": password}
    assert stat.S_IMODE(home.password_file.stat().st_mode) == 0o600
    assert AirflowHome(tmp_path / "other", 8080).password() != password


def test_the_key_that_signs_tokens_is_as_long_as_the_hash_and_stays(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path / "airflow", 8080)
    key = airflow_environment(home)["AIRFLOW__API_AUTH__JWT_SECRET"]
    assert len(key) >= 512 / 6  # HS512; a character of base64 has 6 bits
    assert airflow_environment(home)["AIRFLOW__API_AUTH__JWT_SECRET"] == key
    assert stat.S_IMODE((home.path / "jwt.secret").stat().st_mode) == 0o600
    other = airflow_environment(AirflowHome(tmp_path / "other", 8080))
    assert other["AIRFLOW__API_AUTH__JWT_SECRET"] != key


def test_everything_listens_on_the_loopback_at_the_given_port(tmp_path: Path) -> None:
    environment = airflow_environment(AirflowHome(tmp_path, 18080))
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__API__PORT"] == "18080"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].startswith(
        "http://127.0.0.1:18080/"
    )
    logs_on_a_port = [c for c in airflow_processes().values() if "--skip-serve-logs" in c]
    assert len(logs_on_a_port) == 2  # the scheduler and the triggerer would open one each


def test_the_project_is_importable_in_airflow_whatever_the_caller_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = airflow_environment(AirflowHome(tmp_path, 1))
    assert environment["PYTHONPATH"] == f"{CODE_FOLDER}:/elsewhere"


def test_the_scheduler_leaves_its_pauses_to_our_executor(tmp_path: Path) -> None:
    """By the very Airflow that is installed: a setting that it does not know would do nothing."""
    environment = {**os.environ, **airflow_environment(AirflowHome(tmp_path, 1))}
    asked = (
        "from airflow.configuration import conf\n"
        "from airflow.executors.executor_loader import ExecutorLoader\n"
        "print(conf.getfloat('scheduler', 'scheduler_idle_sleep_time'))\n"
        "known = conf.configuration_description['scheduler']['options']\n"
        "print('scheduler_idle_sleep_time' in known)\n"
        "print(ExecutorLoader.import_default_executor_cls()[0].__name__)\n"
    )
    command = [sys.executable, "-c", asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-3:] == ["0.0", "True", "WaitingExecutor"]
