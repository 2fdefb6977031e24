"""The parent MLflow run of a pipeline run: the names of its tags, and its id.

Components write it by MLflow's library, operators by its REST API.
"""

from contract.layout import RunLayout

OUTCOME_TAG = "slipway.outcome"
REASONS_TAG = "slipway.reasons"
MOST_TAG_CHARACTERS = 5000  # MLflow's own limit


def parent_run_id(run: RunLayout) -> str:
    """Return the id of a pipeline run's MLflow run; empty if it is not tracked."""
    place = run.tracking("run")
    return place.read_text(encoding="utf-8").strip() if place.is_file() else ""
