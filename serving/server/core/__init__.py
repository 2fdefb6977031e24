"""One model in service, whatever protocol asks: batches, faults, metrics, log."""
