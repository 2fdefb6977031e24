"""SavedModel in, smaller and faster SavedModel out."""
