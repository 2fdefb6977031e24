"""The traffic backends by the name that `traffic.backend` of a runtime file chooses."""

from collections.abc import Mapping
from types import MappingProxyType

from contract.errors import ConfigError, did_you_mean
from serving.agent.backends.backend_kind import BackendKind
from serving.agent.backends.envoy import ENVOY

BACKENDS: Mapping[str, BackendKind] = MappingProxyType({"envoy": ENVOY})


def backend_kind(name: str) -> BackendKind:
    """Return a backend's entry.

    Raises:
        ConfigError: If there is none of this name, with the names that there are.
    """
    if name not in BACKENDS:
        known = ", ".join(sorted(BACKENDS))
        nearest = did_you_mean(name, BACKENDS)
        raise ConfigError([f"traffic.backend: '{name}': unknown{nearest} (known: {known})"])
    return BACKENDS[name]
