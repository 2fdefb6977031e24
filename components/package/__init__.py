"""A self-contained directory: model, server settings, provenance."""
