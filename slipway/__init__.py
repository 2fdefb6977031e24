"""Slipway: from raw data to a model that earns its traffic, in one Airflow DAG."""

from slipway.code_path import CODE_FOLDER  # first of all: it puts our packages on the path

# isort: split

__all__ = ["CODE_FOLDER"]
