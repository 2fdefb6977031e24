"""The commands of `slipway`, grouped by who needs them."""
