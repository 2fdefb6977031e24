"""The model server: one version of one model behind TensorFlow Serving's REST API.

From the wire inwards: `connection` (HTTP/1.1) → `rest` (routes, bodies, errors) → `instances`
(JSON to arrays, by the manifest's inputs) → `batching` → `runtime` (TensorFlow today). Another
front (gRPC) calls `model` as `rest` does; another engine implements `runtime.Runtime`.
"""
