"""The model server: one version of one model behind TensorFlow Serving's REST API.

A request passes through `connection` (HTTP/1.1), `rest` (routes, bodies, errors), `instances`
(JSON to arrays, by the manifest's inputs), `predictions` and `batching`, and reaches the model
behind the protocol `engine.ServedModel`. `opening` chooses its implementation by the package:
`tensorflow_engine`, or `split_engine`, which runs the core of the model in OpenVINO
(`openvino_engine`) or LiteRT (`litert_engine`) and, where the inputs need one, a TensorFlow
front. REST is the only protocol; there is no gRPC.
"""
