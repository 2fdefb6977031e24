"""The optimiser's passes, one module each, under the Graph Transform Tool's names.

A pass is a function `apply(GraphModel) -> Change`. It changes no weights in place and writes
nothing; where it finds nothing to do it says so in `Change.note` and returns the model as it was.
To add one: a module beside these, a line in `registry.py`, its name in `OptimizeConfig.passes`.
"""
