"""What a process inherits and nothing hands over: a fork has its warm parent's, not its starter's.

A command under `systemd-run --property=MemoryMax=4G`, `unshare --net`, `setpriv` or `sg` must not
leave these bounds because a process outside of them forks its children.
"""

import os
from collections.abc import Mapping
from pathlib import Path

_OWN = Path("/proc/self")
_OF_STATUS = ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp")


def confinement() -> dict[str, str]:
    """Return this process's bounds, by their names in a message; one that cannot be read is ''."""
    status = _status()
    return {
        "user or group": " ".join(status.get(name, "") for name in _OF_STATUS[:3]),
        "set of privileges": _privileges(status),
        "control group": _read("cgroup"),
        "set of namespaces": _namespaces(),
        "root folder": _root(),
        "scheduling policy": str(os.sched_getscheduler(0)),
        "oom_score_adj": _read("oom_score_adj"),
    }


def _status() -> dict[str, str]:
    pairs = (line.partition(":") for line in _read("status").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _privileges(status: Mapping[str, str]) -> str:
    names = sorted(name for name in status if name.startswith("Cap"))
    return " ".join(status.get(name, "") for name in (*names, *_OF_STATUS[3:]))


def _namespaces() -> str:
    try:
        return " ".join(sorted(str(one.readlink()) for one in (_OWN / "ns").iterdir()))
    except OSError:
        return ""


def _root() -> str:
    try:
        root = Path("/").stat()
    except OSError:
        return ""
    return f"{root.st_dev} {root.st_ino}"


def _read(name: str) -> str:
    try:
        return (_OWN / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
