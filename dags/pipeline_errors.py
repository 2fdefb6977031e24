"""Pipelines that cannot be read, shown by Airflow as one import error that names their problems.

It is a DAG file without a DAG: an error in `pipelines.py` itself would take all pipelines away.
"""

from contract.errors import ConfigError, UserError
from contract.loader import load_pipeline, pipeline_folders


def problems() -> list[str]:
    """Return every problem of every pipeline, each with its file."""
    found: list[str] = []
    for folder in pipeline_folders().values():
        try:
            load_pipeline(folder)
        except UserError as error:
            found += [f"{line} (in {folder})" for line in str(error).splitlines()]
    return found


if broken := problems():
    raise ConfigError(broken)
