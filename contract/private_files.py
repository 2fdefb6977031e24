"""Folders and secrets that only their owner may open."""

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from contract.errors import ConfigError


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter, or take that right from others; return it.

    Raises:
        ConfigError: If it is a link, no folder, or somebody else's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigError(
                [
                    f"{path}: expected a folder of user {os.geteuid()}, found "
                    f"{stat.filemode(found.st_mode)} of user {found.st_uid}; move it away, or "
                    "choose another place"
                ]
            ) from None
        if found.st_mode & 0o077:
            path.chmod(0o700)
    return path


def secret_file(path: Path, characters: int = 43) -> Path:
    """Make a file with a random secret, once; only its owner may read it. Return the file.

    Args:
        path: Where it is.
        characters: Its length; each has 6 bits, so that 43 are 256 bits and more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(characters)[:characters])
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
    path.chmod(0o600)
    return path
