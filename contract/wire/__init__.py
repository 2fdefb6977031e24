"""The messages that model servers and their callers exchange over gRPC, without TensorFlow.

`tensorflow-serving-api` has them too, but its import brings TensorFlow: seconds, and hundreds of
megabytes, which neither a caller nor a server of another engine should pay. The descriptors here
are in a pool of their own, so that both may be in one process. This part of the contract needs
NumPy and protobuf; all who import it bring those themselves.

`descriptors`         how messages are described in Python
`tensorflow_serving`  TensorFlow Serving's messages, and TensorFlow's that they are made of
`model_server_config` the files that configure TensorFlow Serving's server
`open_inference`      the Open Inference Protocol's
`grpc_services`       of every gRPC server: health and reflection
`tensors`             TensorProto to and from arrays
`open_tensors`        the Open Inference Protocol's tensors to and from arrays
"""
