"""What all components share of a run: the step, MLflow, the serving agent, clean-up."""
