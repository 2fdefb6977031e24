"""The bridge from Airflow to the component processes: operators, triggers, notifiers, forms."""
