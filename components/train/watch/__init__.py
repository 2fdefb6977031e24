"""What observes a training: figures, profiles, hangs, divergence."""
