"""The table of contents: one DAG per pipeline folder."""
