"""Pages for a browser. Each is whole in itself and loads nothing from elsewhere."""
