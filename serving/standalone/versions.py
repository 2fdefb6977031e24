"""Which versions a base path holds, and which of them a policy wants served."""

import logging
from pathlib import Path

from grpc import StatusCode

from serving.server.grpc.statuses import CallError
from serving.standalone.configuration import ModelConfig

log = logging.getLogger("slipway")

_MOST_VERSION = (1 << 63) - 1  # the messages of the API hold no larger one


def wanted_versions(model: ModelConfig) -> dict[int, Path]:
    """Return the folder of each version that is to be served.

    A folder is a version if its name is a number of 63 bits, such as `3` or `00000003`.

    Raises:
        CallError: If the base path does not exist: that is no reason to unload what is served.
    """
    found = _versions_in(model)
    policy = model.policy
    if policy.kind == "all":
        return found
    if policy.kind == "specific":
        for missing in set(policy.versions) - found.keys():
            log.warning("version %d of '%s' is not in %s", missing, model.name, model.base_path)
        return {n: path for n, path in found.items() if n in policy.versions}
    return {n: found[n] for n in sorted(found)[-policy.count :]}


def _versions_in(model: ModelConfig) -> dict[int, Path]:
    try:
        folders = sorted(path for path in model.base_path.iterdir() if path.is_dir())
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise CallError(
            StatusCode.INVALID_ARGUMENT,
            f"Could not find base path {model.base_path} for servable {model.name} with error "
            f"{getattr(error, 'strerror', None) or error}",
        ) from error
    return {int(path.name): path for path in folders if _is_number(path.name)}


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and int(name) <= _MOST_VERSION
