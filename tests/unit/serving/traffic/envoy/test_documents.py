import json
import re
from pathlib import Path

from contract.records.traffic import Arm, Shadow, TrafficPlan
from serving.traffic.backend import Endpoint, PipelineTraffic
from serving.traffic.envoy.bootstrap import LATENCY_BOUNDS_MS
from serving.traffic.envoy.clusters import clusters
from serving.traffic.envoy.documents import discovery_response
from serving.traffic.envoy.listener import ListenerOptions, listener
from serving.traffic.envoy.routes import routes

OPTIONS = ListenerOptions("127.0.0.1", 8500, timeout_seconds=30.0)
PLAN = TrafficPlan(
    pipeline="digits",
    arms=(
        Arm(name="stable", version=1, weight_percent=97),
        Arm(name="canary", version=2, weight_percent=3),
    ),
    shadow=Shadow(version=3, percent=25, max_concurrent_requests=7),
)
ENDPOINTS = {version: Endpoint("127.0.0.1", 20000 + version) for version in (1, 2, 3)}


def of(traffic: list[PipelineTraffic], options: ListenerOptions = OPTIONS) -> list[dict]:
    return routes(traffic, options)["virtual_hosts"][0]["routes"]


def first_match(found: list[dict], path: str, method: str = "POST") -> dict:
    """Return the first route that matches, as Envoy would choose."""
    for route in found:
        match = route["match"]
        wanted = [h["string_match"]["exact"] for h in match.get("headers", ())]
        if method not in (wanted or [method]):
            continue
        if "prefix" in match and path.startswith(match["prefix"]):
            return route
        if "safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path):
            return route
    raise AssertionError(f"no route for {path}")


def test_arms_get_their_weights_and_the_shadow_a_capped_copy() -> None:
    route = first_match(of([PipelineTraffic(PLAN, ENDPOINTS)]), "/v1/models/digits:predict")
    weighted = route["route"]["weighted_clusters"]["clusters"]
    shares = [(cluster["name"], cluster["weight"]) for cluster in weighted]
    assert shares == [("digits/1", 97), ("digits/2", 3)]
    (mirror,) = route["route"]["request_mirror_policies"]
    assert mirror["cluster"] == "digits/3/shadow"
    assert mirror["runtime_fraction"]["default_value"]["numerator"] == 25
    limits = clusters(PipelineTraffic(PLAN, ENDPOINTS))["digits/3/shadow"]["circuit_breakers"]
    assert limits["thresholds"][0]["max_requests"] == 7


def test_a_server_is_told_as_which_arm_it_is_asked_whatever_a_caller_says() -> None:
    found = of([PipelineTraffic(PLAN, ENDPOINTS)])
    route = first_match(found, "/v1/models/digits:predict")["route"]
    said = {
        cluster["name"]: added["header"]["value"]
        for cluster in route["weighted_clusters"]["clusters"]
        for added in cluster["request_headers_to_add"]
        if added["header"]["key"] == "x-slipway-arm"
        and added["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
    }
    assert said == {"digits/1": "stable", "digits/2": "canary"}
    (mirror,) = route["request_mirror_policies"]
    (change,) = mirror["request_headers_mutations"]
    assert change["append"]["header"] == {"key": "x-slipway-arm", "value": "shadow"}
    for path in ("/v1/models/digits/versions/2:predict", "/v1/models/digits/labels/canary:predict"):
        assert first_match(found, path)["request_headers_to_remove"] == ["x-slipway-arm"]


def test_sticky_arms_hash_the_header_and_stable_comes_first() -> None:
    """Else a growing canary would take other users' places, and some would flip back."""
    turned = PLAN.model_copy(update={"arms": PLAN.arms[::-1], "sticky_header": "x-user-id"})
    found = of([PipelineTraffic(turned, ENDPOINTS)])
    for path, names in (
        ("/v1/models/digits:predict", ["digits/1", "digits/2"]),
        ("/v1/models/digits/metadata", ["digits/1/direct", "digits/2/direct"]),
    ):
        route = first_match(found, path)["route"]
        assert route["hash_policy"] == [{"header": {"header_name": "x-user-id"}}]
        assert route["weighted_clusters"]["use_hash_policy"] is True
        assert [one["name"] for one in route["weighted_clusters"]["clusters"]] == names
    plain = first_match(of([PipelineTraffic(PLAN, ENDPOINTS)]), "/v1/models/digits:predict")
    assert "hash_policy" not in plain["route"]
    assert "use_hash_policy" not in plain["route"]["weighted_clusters"]


def test_paths_go_where_they_should() -> None:
    found = of([PipelineTraffic(PLAN, ENDPOINTS)])
    for path, cluster in {
        "/v1/models/digits/versions/2:predict": "digits/2/direct",
        "/v1/models/digits/versions/3/metadata": "digits/3/direct",
        "/v1/models/digits/versions/1": "digits/1/direct",
    }.items():
        assert first_match(found, path)["route"]["cluster"] == cluster
    for path in ("/v1/models/digits", "/v1/models/digits/metadata", "/v1/models/digits:classify"):
        assert "weighted_clusters" in first_match(found, path)["route"]
    for path in (
        "/v1/models/digits/versions/31:predict",
        "/v1/models/digits2:predict",
        "/v1/models/census:predict",
        "/",
    ):
        assert first_match(found, path)["direct_response"]["status"] == 404


def test_a_label_goes_to_the_version_that_has_it_and_is_rewritten_to_its_number() -> None:
    found = of([PipelineTraffic(PLAN, ENDPOINTS)])
    for label, version in {"stable": 1, "champion": 1, "canary": 2, "challenger": 2}.items():
        for rest in ("", ":predict", "/metadata"):
            path = f"/v1/models/digits/labels/{label}{rest}"
            route = first_match(found, path)["route"]
            assert route["cluster"] == f"digits/{version}/direct"
            rewrite = route["regex_rewrite"]
            rewritten = re.sub(rewrite["pattern"]["regex"], rewrite["substitution"], path)
            assert rewritten == f"/v1/models/digits/versions/{version}{rest}"


def test_a_label_goes_to_the_version_that_stands_in_for_the_champion() -> None:
    """By its number: it would refuse what is asked of the champion's."""
    standing_in = {**ENDPOINTS, 1: ENDPOINTS[3]}
    found = of([PipelineTraffic(PLAN.model_copy(update={"shadow": None}), standing_in)])
    for label, version in {"stable": 3, "champion": 3, "canary": 2}.items():
        route = first_match(found, f"/v1/models/digits/labels/{label}:predict")["route"]
        assert route["cluster"] == f"digits/{version}/direct"
        assert route["regex_rewrite"]["substitution"] == f"/v1/models/digits/versions/{version}"


def test_a_label_that_no_version_has_is_said_with_those_there_are() -> None:
    alone = PLAN.model_copy(update={"arms": PLAN.arms[:1], "shadow": None})
    found = of([PipelineTraffic(alone, ENDPOINTS)])
    for label in ("canary", "challenger", "stable2", "x"):
        answer = first_match(found, f"/v1/models/digits/labels/{label}:predict")["direct_response"]
        assert answer["status"] == 404
        assert "(labels: stable, champion)" in answer["body"]["inline_string"]


def test_only_predictions_asked_of_the_pipeline_count() -> None:
    found = of([PipelineTraffic(PLAN, ENDPOINTS)])

    def clusters_of(path: str, method: str) -> list[str]:
        weighted = first_match(found, path, method)["route"]["weighted_clusters"]["clusters"]
        return [cluster["name"] for cluster in weighted]

    for verb in ("predict", "classify", "regress"):
        assert clusters_of(f"/v1/models/digits:{verb}", "POST") == ["digits/1", "digits/2"]
    rest = ["digits/1/direct", "digits/2/direct"]
    for path in ("/v1/models/digits", "/v1/models/digits/metadata", "/v1/models/digits:predict"):
        assert clusters_of(path, "GET") == rest
    assert clusters_of("/v1/models/digits/metadata", "POST") == rest
    assert "request_mirror_policies" not in first_match(found, "/v1/models/digits", "GET")["route"]
    made = clusters(PipelineTraffic(PLAN, ENDPOINTS))
    assert {f"digits/{v}{use}" for v in (1, 2, 3) for use in ("", "/shadow", "/direct")} == set(
        made
    )


def test_a_pipeline_with_nothing_in_service_says_so() -> None:
    empty = PipelineTraffic(TrafficPlan(pipeline="digits"))
    assert first_match(of([empty]), "/v1/models/digits:predict")["direct_response"]["status"] == 503


def test_the_token_is_asked_before_anything_else() -> None:
    options = ListenerOptions("127.0.0.1", 8500, 30.0, token="open sesame")
    refusal, *_ = of([PipelineTraffic(PLAN, ENDPOINTS)], options)
    assert refusal["direct_response"]["status"] == 401
    assert refusal["match"]["prefix"] == "/"
    assert refusal["match"]["headers"][0]["string_match"] == {"exact": "Bearer open sesame"}
    method = {"name": ":method", "string_match": {"exact": "OPTIONS"}, "invert_match": True}
    assert refusal["match"]["headers"][1] == method, "browsers ask with OPTIONS and no token"
    assert all("direct_response" not in route for route in of([])[:-1])


def test_servers_hear_their_own_token_in_place_of_the_callers() -> None:
    options = ListenerOptions("127.0.0.1", 1, 30.0, "open sesame", "theirs")
    (host,) = routes([PipelineTraffic(PLAN, ENDPOINTS)], options)["virtual_hosts"]
    assert host["request_headers_to_add"] == [
        {
            "header": {"key": "authorization", "value": "Bearer theirs"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
    ]
    (without,) = routes([], ListenerOptions("127.0.0.1", 1, 30.0, "open sesame"))["virtual_hosts"]
    assert without["request_headers_to_remove"] == ["authorization"]


def test_tls_is_spoken_only_where_it_is_asked_for() -> None:
    plain = listener({}, OPTIONS)["filter_chains"][0]
    assert "transport_socket" not in plain
    secure = ListenerOptions(
        "0.0.0.0", 1, 30.0, certificate=Path("/c.pem"), private_key=Path("/k.pem")
    )
    socket = listener({}, secure)["filter_chains"][0]["transport_socket"]
    assert "/k.pem" in json.dumps(socket)


def test_an_xds_file_has_a_new_version_if_and_only_if_its_content_changed() -> None:
    def version(resources: list[dict]) -> str:
        return json.loads(discovery_response("clusters", resources))["version_info"]

    assert version([{"a": 1, "b": 2}]) == version([{"b": 2, "a": 1}])
    assert version([{"a": 1}]) != version([{"a": 2}]) != version([])


def test_latency_bounds_are_those_that_envoys_histograms_resolve() -> None:
    assert list(LATENCY_BOUNDS_MS) == sorted(set(LATENCY_BOUNDS_MS))
    # two significant digits, or whole milliseconds below 100
    assert all(b < 100 or float(f"{b:.1e}") == b for b in LATENCY_BOUNDS_MS)
