"""`make demo`: three acts on real data, in real Airflow."""
