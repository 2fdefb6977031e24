"""What `slipway check` looks at."""
