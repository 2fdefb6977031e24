"""What a server process proves itself with, and what it asks of callers."""

import ssl
from pathlib import Path

from contract.errors import ConfigError
from contract.tokens import read_token


def token_of(path: Path | None) -> str | None:
    """Return the token in a file; None without a file."""
    return None if path is None else read_token(path, "--token-file")


def tls_of(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what TLS needs of two PEM files; None without files.

    Raises:
        ConfigError: If there is one of them only, or they cannot be used.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError(["--certificate and --key: expected both or none, found one"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"--certificate {certificate}: unusable: {error}"]) from error
    return context
