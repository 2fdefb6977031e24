"""The bridge from Airflow to the component processes."""
