"""Graphs of a SavedModel as passes read and edit them."""
