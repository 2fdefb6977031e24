"""Bearer tokens: reading one out of its file, making one, and what is kept of it."""

import secrets
from pathlib import Path

from contract.errors import ConfigError
from contract.storage import digest_bytes

_PREFIX = "slipway_"  # so that scanners of repositories and logs find one that got there
_RANDOM_BYTES = 32


def read_token(path: Path, name: str = "") -> str:
    """Return the token in a file.

    Args:
        name: The option that named the file, for messages (`--token-file`).

    Raises:
        ConfigError: If the file cannot be read, or is empty.
    """
    where = f"{name} {path}".lstrip()
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([f"{where}: cannot read the token: {reason}"]) from error
    if not token:
        raise ConfigError([f"{where}: expected a token, found an empty file"])
    return token


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def new_token() -> str:
    """Return a token that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def token_digest(token: str) -> str:
    """Return what is kept of a token. A plain digest will do: its 256 bits are random."""
    return digest_bytes(token.encode())
