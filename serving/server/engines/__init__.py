"""What executes a model: TensorFlow, OpenVINO, LiteRT."""
