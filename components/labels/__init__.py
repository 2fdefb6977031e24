"""Newly labelled rows: `labels` adds, lists and announces them.

The command line and the DAGs use it (`python -m components.labels`), and so may a web page: it
imports neither TensorFlow nor tfx_bsl. What ingestion reads is `components.data.label_deltas`.
"""
