"""Which cluster a call of gRPC gets, as Envoy would choose by the routes."""

import re
from typing import Any

import pytest

from contract.records.traffic import Arm, Shadow, TrafficPlan
from serving.traffic.backend import Endpoint, PipelineTraffic
from serving.traffic.envoy.clusters import clusters
from serving.traffic.envoy.grpc_routes import grpc_routes
from serving.traffic.envoy.listener import ListenerOptions
from serving.traffic.envoy.routes import routes

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
ANYWHERE = "localhost:8500"


def traffic(
    name: str, shadow: int | None = None, silent: tuple[int, ...] = (), **weights: int
) -> PipelineTraffic:
    """Return versions `v1`, ... with these weights; `silent` ones do not speak gRPC."""
    numbers = [int(key[1:]) for key in weights]
    arms = tuple(
        Arm(name=arm, version=number, weight_percent=weight)
        for arm, number, weight in zip(
            ("stable", "canary"), numbers, weights.values(), strict=False
        )
    )
    copies = Shadow(version=shadow, percent=50) if shadow else None
    ports = {
        n: None if n in silent else 9000 + n for n in [*numbers, *([shadow] if shadow else [])]
    }
    endpoints = {n: Endpoint("127.0.0.1", 8000 + n, port) for n, port in ports.items()}
    return PipelineTraffic(TrafficPlan(pipeline=name, arms=arms, shadow=copies), endpoints)


def chosen(found: list[dict[str, Any]], path: str, host: str = ANYWHERE, **sent: str) -> Any:
    """Return the route action, or the words of a refusal; headers are `x_slipway_model`, ..."""
    headers = {":authority": host, **{k.replace("_", "-"): v for k, v in sent.items()}}
    for route in found:
        match = route["match"]
        assert match["grpc"] == {}
        is_path = path == match["path"] if "path" in match else path.startswith(match["prefix"])
        if is_path and all(is_met(one, headers) for one in match.get("headers", ())):
            refused = route.get("direct_response")
            return refused["body"]["inline_string"] if refused else route["route"]
    raise AssertionError(f"no route for {path}")


def is_met(wanted: dict[str, Any], headers: dict[str, str]) -> bool:
    value = headers.get(wanted["name"])
    if "present_match" in wanted:
        return (value is not None) is not wanted.get("invert_match", False)
    if value is None:
        return False
    text = wanted["string_match"]
    if "exact" in text:
        return value == str(text["exact"])
    return re.fullmatch(text["safe_regex"]["regex"], value) is not None


def names(action: Any) -> list[tuple[str, int]]:
    return [(one["name"], one["weight"]) for one in action["weighted_clusters"]["clusters"]]


def test_predictions_are_split_and_copied_and_the_rest_counts_for_no_version() -> None:
    found = grpc_routes([traffic("digits", v1=95, v2=5, shadow=3)], {"timeout": "1s"})
    action = chosen(found, PREDICT)
    assert names(action) == [("digits/1/grpc", 95), ("digits/2/grpc", 5)]
    assert [one["cluster"] for one in action["request_mirror_policies"]] == ["digits/3/grpc-shadow"]
    assert action["timeout"] == "1s"
    infer = chosen(found, "/inference.GRPCInferenceService/ModelInfer")
    assert names(infer) == names(action)
    rest = chosen(found, STATUS)
    assert names(rest) == [("digits/1/grpc-direct", 95), ("digits/2/grpc-direct", 5)]
    assert "request_mirror_policies" not in rest


@pytest.mark.parametrize(
    ("host", "sent", "expected"),
    [
        (ANYWHERE, {"x_slipway_model": "digits"}, "digits/1/grpc"),
        (ANYWHERE, {"x_slipway_model": "census"}, "census/1/grpc"),
        ("census", {}, "census/1/grpc"),
        ("census:8500", {}, "census/1/grpc"),
        ("census", {"x_slipway_model": "digits"}, "digits/1/grpc"),
    ],
)
def test_metadata_name_the_pipeline_or_else_the_host(
    host: str, sent: dict[str, str], expected: str
) -> None:
    found = grpc_routes([traffic("digits", v1=100), traffic("census", v1=100)], {})
    assert names(chosen(found, PREDICT, host, **sent)) == [(expected, 100)]


def test_of_several_pipelines_none_is_guessed() -> None:
    found = grpc_routes([traffic("digits", v1=100), traffic("census", v1=100)], {})
    words = chosen(found, PREDICT)
    assert "by the metadata x-slipway-model" in words
    assert "(pipelines with gRPC: digits, census)" in words


def test_a_wrong_name_is_refused_also_where_there_is_only_one_pipeline() -> None:
    found = grpc_routes([traffic("digits", v1=100)], {})
    assert names(chosen(found, PREDICT)) == [("digits/1/grpc", 100)]
    assert "no such pipeline here" in chosen(found, PREDICT, x_slipway_model="digitz")


def test_a_pipeline_without_grpc_is_not_one_of_several() -> None:
    found = grpc_routes([traffic("digits", v1=100), traffic("rest", silent=(1,), v1=100)], {})
    assert names(chosen(found, PREDICT)) == [("digits/1/grpc", 100)]
    assert grpc_routes([traffic("rest", silent=(1,), v1=100)], {}) == []


def test_one_version_is_asked_past_the_split() -> None:
    found = grpc_routes([traffic("digits", v1=95, v2=5)], {})
    assert chosen(found, PREDICT, x_slipway_version="2")["cluster"] == "digits/2/grpc-direct"
    assert "this version does not run" in chosen(found, PREDICT, x_slipway_version="7")


def test_an_arm_that_does_not_speak_grpc_is_named() -> None:
    found = grpc_routes([traffic("digits", silent=(2,), v1=95, v2=5)], {})
    assert chosen(found, PREDICT) == "pipeline 'digits': version 2 does not speak gRPC"
    quiet = grpc_routes([traffic("digits", silent=(3,), v1=100, shadow=3)], {})
    assert "request_mirror_policies" not in chosen(quiet, PREDICT)


def test_an_arm_or_a_shadow_whose_server_is_gone_costs_its_own_calls_only() -> None:
    """As over REST: where no server could be started again, the others go on."""
    whole = traffic("digits", v1=95, v2=5, shadow=3)
    left = PipelineTraffic(whole.plan, {1: whole.endpoints[1]})
    action = chosen(grpc_routes([left], {}), PREDICT)
    assert names(action) == [("digits/1/grpc", 95), ("digits/2/grpc", 5)]
    assert "request_mirror_policies" not in action


def test_calls_need_the_token_and_get_the_servers_as_requests_do() -> None:
    options = ListenerOptions("127.0.0.1", 1, 30.0, token="open", server_token="inner")
    (host,) = routes([traffic("digits", v1=100)], options)["virtual_hosts"]
    refusal, *rest = host["routes"]
    assert refusal["direct_response"]["status"] == 401
    assert "grpc" not in refusal["match"]  # of whatever protocol
    assert any("grpc" in route["match"] for route in rest)
    (added,) = host["request_headers_to_add"]
    assert added["header"] == {"key": "authorization", "value": "Bearer inner"}


def test_clusters_of_grpc_speak_http_2_at_their_port_and_the_shadow_is_capped() -> None:
    plan = traffic("digits", silent=(2,), v1=95, v2=5, shadow=3)
    made = clusters(plan)
    of_grpc = sorted(name for name in made if "grpc" in name)
    uses = ("grpc", "grpc-direct", "grpc-shadow")
    assert of_grpc == [f"digits/{version}/{use}" for version in (1, 3) for use in uses]
    for name in of_grpc:
        (options,) = made[name]["typed_extension_protocol_options"].values()
        assert options["explicit_http_config"] == {"http2_protocol_options": {}}
        (host,) = made[name]["load_assignment"]["endpoints"][0]["lb_endpoints"]
        port = host["endpoint"]["address"]["socket_address"]["port_value"]
        assert port == 9000 + int(name.split("/")[1])
    assert made["digits/1/grpc"]["health_checks"][0]["grpc_health_check"] == {}
    (cap,) = made["digits/3/grpc-shadow"]["circuit_breakers"]["thresholds"]
    assert (cap["max_requests"], cap["max_retries"]) == (32, 0)
