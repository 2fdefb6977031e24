"""The model server: one version of one model behind TensorFlow Serving's REST API.

A request passes through `connection` (HTTP/1.1), `rest` (routes, bodies, errors), `instances`
(JSON to arrays, by the manifest's inputs), `predictions` and `batching`, and reaches the model
behind the protocol `runtime.Runtime`. `opening` chooses its implementation by the package:
`tensorflow_runtime`, or `split_runtime`, which runs the core of the model in OpenVINO
(`openvino_runtime`) or LiteRT (`litert_runtime`) and, where the inputs need one, a TensorFlow
front. REST is the only protocol; there is no gRPC.
"""
