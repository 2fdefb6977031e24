"""Envoy's routes: who answers a request, who gets a copy, and what is tried again."""

from collections.abc import Sequence

from contract.records.prediction import ARM_HEADER
from contract.records.traffic import TrafficPlan
from serving.traffic.backend import PipelineTraffic
from serving.traffic.envoy.documents import (
    ROUTES,
    TYPES,
    Document,
    cluster_name,
    duration,
)
from serving.traffic.envoy.grpc_routes import grpc_routes
from serving.traffic.envoy.listener import ListenerOptions
from serving.traffic.envoy.weights import mirrored, weighted

# A server's 503 carries it while the model is loading.
LOADING_HEADER = "x-slipway-loading"

# What a request is judged by; serving.server.rest.rest answers the same.
PREDICTING_VERBS = ("predict", "classify", "regress")

# With these a request waits for a dead server for about 15 s (each pause is drawn at random below
# its bound), twice what a restart takes, and fails if it takes longer.
_RETRIES = 60
_RETRY_BASE_INTERVAL = "0.05s"
_RETRY_MAX_INTERVAL = "0.5s"


def routes(traffic: Sequence[PipelineTraffic], options: ListenerOptions) -> Document:
    """Return the routes of all pipelines; what matches none gets 404, without the token 401."""
    action = {"timeout": duration(options.timeout_seconds), "retry_policy": _retry_policy()}
    of_pipelines = [route for one in traffic for route in _pipeline_routes(one, action)]
    nowhere = _answer(404, "no such pipeline here; expected /v1/models/<pipeline>:predict")
    return {
        "@type": TYPES["routes"],
        "name": ROUTES,
        "virtual_hosts": [
            {
                "name": ROUTES,
                "domains": ["*"],
                **_authorization(options),
                "routes": [
                    *_refusal_without(options.token),
                    *of_pipelines,
                    *grpc_routes(traffic, action),
                    {"match": {"prefix": "/"}, **nowhere},
                ],
            }
        ],
    }


def _authorization(options: ListenerOptions) -> Document:
    """Return what becomes of the callers' header: the servers do not see their token."""
    if options.server_token:
        header = {"key": "authorization", "value": f"Bearer {options.server_token}"}
        ours = {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        return {"request_headers_to_add": [ours]}
    return {"request_headers_to_remove": ["authorization"]} if options.token else {}


def _refusal_without(token: str) -> list[Document]:
    # A route and not the filter `api_key_auth`, which Envoy 1.40 calls work in progress, outside
    # its threat model.
    if not token:
        return []
    header = {
        "name": "authorization",
        "string_match": {"exact": f"Bearer {token}"},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    # Browsers ask with OPTIONS, and without a token, what a page may send.
    not_options = {
        "name": ":method",
        "string_match": {"exact": "OPTIONS"},
        "invert_match": True,
    }
    challenge = {"header": {"key": "www-authenticate", "value": "Bearer"}}
    return [
        {
            "match": {"prefix": "/", "headers": [header, not_options]},
            **_answer(401, "expected the header 'Authorization: Bearer <token>'"),
            "response_headers_to_add": [challenge],
        }
    ]


def _pipeline_routes(traffic: PipelineTraffic, action: Document) -> list[Document]:
    plan, prefix = traffic.plan, f"/v1/models/{traffic.plan.pipeline}"
    direct = [
        {
            "match": _below(f"{prefix}/versions/{version}"),
            "route": {"cluster": cluster_name(plan.pipeline, version, "direct"), **action},
            "request_headers_to_remove": [ARM_HEADER],  # a caller's word does not count
        }
        for version in sorted(traffic.endpoints)
    ]
    unknown = _answer(404, f"pipeline '{plan.pipeline}': this version does not run")
    return [
        *direct,
        *_label_routes(traffic, prefix, action),
        {"match": {"prefix": f"{prefix}/versions/"}, **unknown},
        *_weighted_routes(plan, prefix, action),
    ]


def _label_routes(traffic: PipelineTraffic, prefix: str, action: Document) -> list[Document]:
    """Route each label to the version that has it now; a server knows its number only."""
    routes = []
    labels = _labels(traffic)
    for label, has_it in labels.items():
        path, version = f"{prefix}/labels/{label}", _answering(traffic, has_it)
        rewrite = {
            "pattern": {"regex": f"^{path}"},
            "substitution": f"{prefix}/versions/{version}",
        }
        cluster = cluster_name(traffic.plan.pipeline, version, "direct")
        route = {"cluster": cluster, "regex_rewrite": rewrite, **action}
        without_arm = {"request_headers_to_remove": [ARM_HEADER]}
        routes.append({"match": _below(path), "route": route, **without_arm})
    known = ", ".join(labels) or "none"
    unknown = f"pipeline '{traffic.plan.pipeline}': no version has this label now (labels: {known})"
    return [*routes, {"match": {"prefix": f"{prefix}/labels/"}, **_answer(404, unknown)}]


def _answering(traffic: PipelineTraffic, version: int) -> int:
    """Return the version whose server answers for a version: another one's, if that stands in.

    A server refuses what is asked of another number than its own.
    """
    if version != traffic.plan.champion:
        return version
    place = traffic.endpoints[version]
    same = (v for v, other in traffic.endpoints.items() if v != version and other == place)
    return next(same, version)


def _labels(traffic: PipelineTraffic) -> dict[str, int]:
    """Return the version of each label: TensorFlow Serving's usual two, and the registry's."""
    plan = traffic.plan
    trial = plan.canary or plan.shadow
    versions = {
        "stable": plan.champion,
        "champion": plan.champion,
        "canary": plan.canary.version if plan.canary else None,
        "challenger": trial.version if trial else None,
    }
    return {name: v for name, v in versions.items() if v is not None and v in traffic.endpoints}


def _weighted_routes(plan: TrafficPlan, prefix: str, action: Document) -> list[Document]:
    """Return the routes of what is asked of a pipeline: predictions, which count, and the rest."""
    rest = _below(prefix)
    if not plan.arms:
        text = f"pipeline '{plan.pipeline}': no version is in service"
        return [{"match": rest, **_answer(503, text)}]
    predictions = {
        "safe_regex": {"regex": f"{prefix}:({'|'.join(PREDICTING_VERBS)})"},
        "headers": [{"name": ":method", "string_match": {"exact": "POST"}}],
    }
    return [
        {"match": predictions, "route": weighted(plan, "arm") | mirrored(plan, "shadow") | action},
        {"match": rest, "route": weighted(plan, "direct") | action},
    ]


def _retry_policy() -> Document:
    """Retry only what no model has seen: so nothing is predicted, counted or logged twice.

    The retries bridge the restart of a killed server: at first nobody listens, then the server
    says that it is loading.
    """
    return {
        "retry_on": "connect-failure,reset-before-request,refused-stream,retriable-headers",
        "retriable_headers": [{"name": LOADING_HEADER, "present_match": True}],
        "num_retries": _RETRIES,
        "retry_back_off": {
            "base_interval": _RETRY_BASE_INTERVAL,
            "max_interval": _RETRY_MAX_INTERVAL,
        },
    }


def _below(path: str) -> Document:
    """Match a model's path, its verbs (`:predict`) and what lies below it, and no longer name."""
    return {"safe_regex": {"regex": f"{path}([:/].*)?"}}


def _answer(status: int, text: str) -> Document:
    return {"direct_response": {"status": status, "body": {"inline_string": text}}}
