"""Statistics and schema of the raw examples; anomalies and drift."""
