"""What a request's target names: the paths of one version, and what is wrong with another one."""

import re
from collections.abc import Iterable, Sequence

from contract.errors import did_you_mean
from contract.records.package import PackageManifest

DEFAULT_LABELS = ("stable",)
# A caller that takes the server for a proxy sends the whole address, RFC 9112 3.2.2.
_AUTHORITY = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


def path_of(target: bytes) -> bytes:
    """Return the path of a request's target: without scheme, host and query."""
    if (whole := _AUTHORITY.match(target)) is not None:
        target = target[whole.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    return target.partition(b"?")[0]


def model_paths(manifest: PackageManifest, labels: Sequence[str]) -> list[str]:
    """Return the paths under which a version is found: the model's, the version's, each label's."""
    model = f"/v1/models/{manifest.pipeline}"
    return [model, f"{model}/versions/{manifest.version}", *(f"{model}/labels/{n}" for n in labels)]


def not_found_words(
    path: bytes, known: Iterable[bytes], manifest: PackageManifest, labels: Sequence[str]
) -> str:
    """Say what is wrong with a path that this server does not have, and what it has."""
    found = path.decode("latin-1")[:200]
    name = f"version {manifest.version} of '{manifest.pipeline}'"
    if label := found.partition(f"/v1/models/{manifest.pipeline}/labels/")[2]:
        has = ", ".join(f"'{label}'" for label in labels) or "none"
        return f"label '{re.split('[:/]', label)[0]}': not one of {name}, which has {has}"
    names = [known_path.decode() for known_path in known]
    example = f"/v1/models/{manifest.pipeline}:predict"
    hint = did_you_mean(found, names) or f" (for example {example})"
    return f"{found}: not found; this server has {name}{hint}"
