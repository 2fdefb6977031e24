"""One process learns: model, losses, gradients, steps."""
