"""REST: TensorFlow Serving's API, and the Open Inference Protocol."""
