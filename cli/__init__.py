"""The `slipway` command, the local stack and the demo."""
