"""The rows that an optimisation is judged by, for our SavedModels and for any other."""
