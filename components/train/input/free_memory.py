"""How much memory this process may still take: of the machine, and of its container."""

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_LIMIT_AND_USE = (
    ("memory.max", "memory.current"),  # cgroup v2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),  # v1
)


def free_bytes(cgroups: Path = _CGROUPS) -> int:
    """Return the free bytes of this machine, or of the container if that has less."""
    free = int(psutil.virtual_memory().available)
    for limit_name, use_name in _LIMIT_AND_USE:
        try:
            limit, use = (
                (cgroups / name).read_text(encoding="utf-8").strip()
                for name in (limit_name, use_name)
            )
        except OSError:
            continue
        if limit != "max":  # v1 says a number larger than any memory
            free = min(free, int(limit) - int(use))
    return max(free, 0)
