"""The model server: one version of one model behind TensorFlow Serving's API and others.

Protocols: TensorFlow Serving's and the Open Inference Protocol, each over REST and gRPC.

A request passes through `http/connection` (HTTP/1.1), `rest/` (routes, bodies, errors) and
`requests/instances` (JSON to arrays, by the manifest's inputs), or through `grpc/` and
`requests/arrays`. Both ask `core/service` (readiness, heads, submission, log), which hands rows to
`core/batching`; that reaches the model behind the protocol `engine.ServedModel`. `opening` chooses
its implementation by the package: `tensorflow_engine`, or `split_engine`, which runs the core of
the model in OpenVINO (`openvino_engine`) or LiteRT (`litert_engine`) and, where the inputs need
one, a TensorFlow front.
"""
