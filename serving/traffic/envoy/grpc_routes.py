"""Envoy's routes of gRPC: by metadata or by host, because the model's name is in the message.

docs/decisions/0012 says why. A call means the pipeline that `x-slipway-model` names, else the one
that the host is called (`:authority`), else the only one that speaks gRPC. `x-slipway-version` asks
one version by its number, past the split.
"""

from collections.abc import Sequence

from contract.addresses import VERSION_HEADER
from contract.records.prediction import ARM_HEADER
from contract.records.traffic import TrafficPlan
from serving.traffic.backend import PipelineTraffic
from serving.traffic.envoy.documents import Document, cluster_name
from serving.traffic.envoy.weights import mirrored, weighted

MODEL_HEADER = "x-slipway-model"

_PREDICTIONS = "/tensorflow.serving.PredictionService"
# What a version is judged by; serving.server.grpc.calls counts the same as predictions. Paths,
# because Envoy refuses a pattern of them as too large.
_PREDICTING = (
    *(f"{_PREDICTIONS}/{name}" for name in ("Predict", "Classify", "Regress", "MultiInference")),
    "/inference.GRPCInferenceService/ModelInfer",
)


def grpc_routes(traffic: Sequence[PipelineTraffic], action: Document) -> list[Document]:
    """Return the routes of all calls of gRPC, if any pipeline speaks it.

    What means no pipeline gets UNIMPLEMENTED, which is what gRPC makes of 404.
    """
    if not (speaking := [one for one in traffic if _speaks(one)]):
        return []
    routes = []
    for one in speaking:
        name = one.plan.pipeline
        routes += _routes(one, [_is(MODEL_HEADER, name)], action)
        host = {"safe_regex": {"regex": f"{name}(:[0-9]+)?"}}
        by_host = {"name": ":authority", "string_match": host}
        routes += _routes(one, [_no(MODEL_HEADER), by_host], action)
    if len(speaking) == 1:
        routes += _routes(speaking[0], [_no(MODEL_HEADER)], action)
    names = ", ".join(one.plan.pipeline for one in speaking)
    words = (
        f"no such pipeline here: say which one by the metadata {MODEL_HEADER}, or by the host "
        f"(pipelines with gRPC: {names})"
    )
    return [*routes, {"match": {"prefix": "/", "grpc": {}}, **_refused(404, words)}]


def _speaks(traffic: PipelineTraffic) -> bool:
    return any(one.grpc_port is not None for one in traffic.endpoints.values())


def _routes(traffic: PipelineTraffic, headers: list[Document], action: Document) -> list[Document]:
    """Return the routes of the calls with these headers: of one version, predictions, the rest."""
    plan = traffic.plan
    direct = [
        {
            "match": _match("", [*headers, _is(VERSION_HEADER, str(version))]),
            "route": {"cluster": cluster_name(plan.pipeline, version, "grpc-direct"), **action},
            "request_headers_to_remove": [ARM_HEADER],  # a caller's word does not count
        }
        for version, endpoint in sorted(traffic.endpoints.items())
        if endpoint.grpc_port is not None
    ]
    named = {"name": VERSION_HEADER, "present_match": True}
    words = f"pipeline '{plan.pipeline}': this version does not run, or does not speak gRPC"
    unknown = {"match": _match("", [*headers, named]), **_refused(404, words)}
    return [*direct, unknown, *_weighted_routes(traffic, headers, action)]


def _weighted_routes(
    traffic: PipelineTraffic, headers: list[Document], action: Document
) -> list[Document]:
    plan = traffic.plan
    silent = [arm.version for arm in plan.arms if _is_silent(traffic, arm.version)]
    if silent or not plan.arms:
        words = f"pipeline '{plan.pipeline}': no version is in service"
        if silent:
            words = f"pipeline '{plan.pipeline}': version {silent[0]} does not speak gRPC"
        return [{"match": _match("", headers), **_refused(503, words)}]
    predictions = weighted(plan, "grpc") | _mirror(traffic, plan) | action
    rest = {"match": _match("", headers), "route": weighted(plan, "grpc-direct") | action}
    return [*({"match": _match(path, headers), "route": predictions} for path in _PREDICTING), rest]


def _is_silent(traffic: PipelineTraffic, version: int) -> bool:
    """Tell whether a version runs without gRPC; of one that does not run its own share fails."""
    endpoint = traffic.endpoints.get(version)
    return endpoint is not None and endpoint.grpc_port is None


def _mirror(traffic: PipelineTraffic, plan: TrafficPlan) -> Document:
    """Copy calls to the shadow; to one that does not run, or does not speak gRPC, none."""
    shadow = None if plan.shadow is None else traffic.endpoints.get(plan.shadow.version)
    if shadow is None or shadow.grpc_port is None:
        return {}
    return mirrored(plan, "grpc-shadow")


def _match(path: str, headers: list[Document]) -> Document:
    where: Document = {"path": path} if path else {"prefix": "/"}
    return {**where, "grpc": {}, "headers": headers}


def _is(name: str, value: str) -> Document:
    return {"name": name, "string_match": {"exact": value}}


def _no(name: str) -> Document:
    return {"name": name, "present_match": True, "invert_match": True}


def _refused(status: int, text: str) -> Document:
    return {"direct_response": {"status": status, "body": {"inline_string": text}}}
