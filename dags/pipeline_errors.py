"""Pipelines that cannot be read, shown by Airflow as one import error that names their problems.

It is a DAG file without a DAG: an error in `pipelines.py` itself would take all pipelines away.
"""

from contract.errors import ConfigError, UserError
from contract.loader import load_pipeline
from contract.pipelines import folder_problems, pipeline_folders


def problems() -> list[str]:
    """Return every problem of SLIPWAY_PIPELINES and of every pipeline, each with its place."""
    found = folder_problems()
    for folder in pipeline_folders().values():
        try:
            load_pipeline(folder)
        except UserError as error:
            found += [f"{line} (in {folder})" for line in str(error).splitlines()]
    return found


if broken := problems():
    raise ConfigError(broken)
