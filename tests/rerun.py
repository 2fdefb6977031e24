"""Runs failed tests once more, if `may_fail.txt` names each of them or its file, with a reason.

    python tests/rerun.py [CACHE_FOLDER]

What fails otherwise stays failed, and nothing is run again: the exit code is 1.
"""

import json
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).with_name("may_fail.txt")


def named(text: str) -> dict[str, str]:
    """Return the reason by test, file or folder of a list with one `NAME  # REASON` a line.

    Raises:
        ValueError: If a line has no reason.
    """
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        test, _, reason = (part.strip() for part in line.partition("  # "))
        if not line.startswith("#"):
            if not reason:
                raise ValueError(f"{LIST.name}: '{line}': expected 'NAME  # REASON'")
            found[test] = reason
    return found


def reason_of(test: str, reasons: dict[str, str]) -> str | None:
    """Return why a test may fail once; None if neither it nor its file or folder is named."""
    for name, reason in reasons.items():
        if test == name or test.startswith(tuple(name + mark for mark in ("/", "::", "["))):
            return reason
    return None


def say(line: str, *below: str) -> None:
    """Print a line, and others below it."""
    sys.stdout.write("\n  ".join((line, *below)) + "\n")
    sys.stdout.flush()  # before what the tests say


def main(cache: Path, listed: Path = LIST) -> int:
    """Return the exit code: 0 if everything that had failed is named and passes now."""
    record, reasons = cache / "v" / "cache" / "lastfailed", named(listed.read_text())
    failed = sorted(json.loads(record.read_text())) if record.exists() else []
    if unknown := [test for test in failed if reason_of(test, reasons) is None]:
        say(f"Not run again, as {listed.name} does not name them:", *unknown)
    if unknown or not failed:
        return 1
    for test in failed:
        say(f"Once more: {test}: {reason_of(test, reasons)}")
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *failed]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:] or [".pytest_cache"])))
