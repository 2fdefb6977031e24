"""The optimised model for engines other than TensorFlow, measured, and the best one chosen."""
