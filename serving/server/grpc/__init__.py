"""gRPC: TensorFlow Serving's API, the Open Inference Protocol, health, reflection; on REST's core.

`front` opens the ports, `calls` does what every call needs (token, deadline, errors, metrics),
`prediction_service`, `model_service` and `inference_service` decode and encode. Messages are those
of `contract.wire`: TensorFlow is not imported. This folder is imported only where a gRPC port is
asked for.
"""
