"""Judge every published checkpoint exactly once, beside training."""
