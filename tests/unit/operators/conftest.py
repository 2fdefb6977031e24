"""Airflow writes its settings where AIRFLOW_HOME says when it is imported: not in a real home."""

import os
import tempfile

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="slipway-airflow-"))
