"""Reading a bearer token: the one line of a file that only those may read who may use it."""

from pathlib import Path

from contract.errors import ConfigError


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
