"""Choose a checkpoint and judge it against what is serving."""
