"""Who holds a step's lock, by the kernel's table, without taking the lock.

Anyone who tried to take it could be mistaken for the step's next process.
"""

from pathlib import Path

_TABLE = Path("/proc/locks")


def locked_inodes() -> set[int]:
    """Return the inodes of the files that some process has locked; none but on Linux."""
    try:
        lines = _TABLE.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    fields = (line.split() for line in lines)
    return {int(words[5].rpartition(":")[2]) for words in fields if words[1] == "FLOCK"}


def is_held(lock: Path, inodes: set[int]) -> bool:
    """Return whether a lock is one of those files."""
    return bool(inodes) and lock.exists() and lock.stat().st_ino in inodes
