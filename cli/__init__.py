"""The front door: the `slipway` command."""
