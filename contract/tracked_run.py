"""The parent MLflow run of a pipeline run: the names of its tags, and its id.

Components write it by MLflow's library, operators by its REST API.
"""

from contextlib import suppress

from contract.errors import StorageError
from contract.layout import RunLayout
from contract.stores import store_of

OUTCOME_TAG = "slipway.outcome"
REASONS_TAG = "slipway.reasons"
MOST_TAG_CHARACTERS = 5000  # MLflow's own limit


def parent_run_id(run: RunLayout) -> str:
    """Return the id of a pipeline run's MLflow run; empty if it is not tracked."""
    with suppress(StorageError):  # nothing fails for a link
        return (store_of(run.tracking_notes).read("run") or "").strip()
    return ""
