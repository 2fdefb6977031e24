"""One model version behind TensorFlow Serving's REST API."""
