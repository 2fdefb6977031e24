"""Writing values so that supervisord reads them back; what it cannot hold is refused."""

import re
from collections.abc import Mapping

from contract.errors import ConfigError


def escape(value: str, name: str) -> str:
    """Write a value so that supervisord reads it back; `%` is its expansion sign."""
    if re.search(r"\s[;#]", value) or "\n" in value:
        raise ConfigError(
            [f"program '{name}': supervisord cannot hold {value!r}: a line break, ' ;' or ' #'"]
        )
    return value.replace("%", "%%")


def environment_value(environment: Mapping[str, str], name: str) -> str:
    """Write an environment as supervisord's comma-separated pairs."""
    return ",".join(f"{key}={_quote(value, name)}" for key, value in environment.items())


def _quote(value: str, name: str) -> str:
    # supervisord reads pairs with a shlex that knows no escapes, then strips quotes off both ends
    quote = "'" if '"' in value else '"'
    if quote in value or value[:1] in ("'", '"') or value[-1:] in ("'", '"'):
        raise ConfigError(
            [f"program '{name}': supervisord cannot hold an environment value with such quotes"]
        )
    return f"{quote}{escape(value, name)}{quote}"
