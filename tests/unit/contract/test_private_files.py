import os
import stat
from pathlib import Path

import pytest

from contract.errors import ConfigError
from contract.private_files import private_folder, secret_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_its_owners_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert mode(private_folder(tmp_path / "state" / "home")) == 0o700
    finally:
        os.umask(before)


def test_rights_that_others_have_are_taken_from_them(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    folder.chmod(0o755)
    assert mode(private_folder(folder)) == 0o700


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="expected a folder of user .*, found l"):
        private_folder(tmp_path / "home")


def test_a_secret_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "token")
    secret = path.read_text(encoding="utf-8")
    assert len(secret) == 43
    assert mode(path) == 0o600
    path.chmod(0o644)
    assert secret_file(path).read_text(encoding="utf-8") == secret
    assert mode(path) == 0o600
    assert len(secret_file(tmp_path / "other", 86).read_text(encoding="utf-8")) == 86
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other", "token"]
