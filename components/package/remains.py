"""What imports that were killed leave on the disk."""

import contextlib
import shutil
from datetime import datetime

from components.runs.retention import ABANDONED_AFTER
from contract.layout import PipelineLayout


def remove_remains(layout: PipelineLayout, now: datetime) -> None:
    """Remove what killed imports have left; their numbers are not used again, so nobody else does.

    Those that were written to a short while ago may be of an import that is under way.
    """
    for remains in layout.versions.glob(".*.tmp-*"):
        with contextlib.suppress(FileNotFoundError):  # another import has removed it
            if now.timestamp() - remains.stat().st_mtime > ABANDONED_AFTER.total_seconds():
                shutil.rmtree(remains, ignore_errors=True)
