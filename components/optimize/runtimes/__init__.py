"""The optimised model for other runtimes than TensorFlow, measured, and the best one chosen."""
