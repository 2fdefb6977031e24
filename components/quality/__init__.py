"""How good a model is: metrics with intervals, verdicts, pictures, load."""
