"""What users may write, typed: one module a part of `pipeline.yaml`."""
