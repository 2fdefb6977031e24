"""A client of model servers without TensorFlow: NumPy, and protobuf with grpcio for gRPC.

from slipway.client import Client

with Client("http://127.0.0.1:8080", "digits") as digits:       # the data plane, or a server
    found = digits.predict({"image": rows})
found.outputs["scores"], found.version

Client("grpc://127.0.0.1:8500", "digits", token="s3cret")       # a server's gRPC port
Client("unix:/run/digits.sock", "digits")                       # its Unix socket
"""

from slipway.client.client import Client, Connecting, Prediction

__all__ = ["Client", "Connecting", "Prediction"]
