"""The shipped dashboard and alert rules against what a real stack shows."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rollouts import a_rollout

from components.deploy.advice.adviser import Adviser
from components.deploy.advice.desk import Desk
from components.deploy.advice.prometheus import Prometheus
from contract.free_ports import free_port
from contract.places import CODE_FOLDER
from contract.schema.serving import DeployConfig

FOLDER = CODE_FOLDER / "docker" / "kubernetes" / "monitoring"
METRIC = re.compile(r"\b(?:slipway|envoy)_\w+(?=[{\[])|\bslipway_\w+")
LABELS = {"envoy_cluster_name", "envoy_response_code_class"}


def dashboard() -> dict:
    return json.loads((FOLDER / "rollouts.dashboard.json").read_text())


def variable_queries() -> list[str]:
    variables = dashboard()["templating"]["list"]
    return [one["query"]["query"] for one in variables if one["type"] == "query"]


def panel_queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def alert_queries() -> dict[str, str]:
    (group,) = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def metrics_in(queries: list[str]) -> set[str]:
    return {name for query in queries for name in METRIC.findall(query)} - LABELS


@pytest.fixture
def served(make_stack):
    """Version 2 on trial beside version 1, failing each second request; both have answered."""
    stack = make_stack(envoys=2)
    stack.package(1)
    stack.package(2, error_every=2)
    stack.serve({1: 50, 2: 50})
    stack.predict(100)
    rollout = a_rollout(looked_at=datetime.now(UTC), seconds_to_end=9999.0)
    rollout.write(stack.layout.rollout)
    return stack


def test_every_metric_of_dashboard_and_rules_is_shown_by_a_real_stack(served) -> None:
    shown: set[str] = set()
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    for job in config["scrape_configs"]:
        path = job.get("metrics_path", "/metrics")
        text = httpx.get(f"http://127.0.0.1:{served.settings.port}{path}").raise_for_status().text
        families = text_string_to_metric_families(text)
        shown |= {sample.name.removesuffix("_total") for one in families for sample in one.samples}
    wanted = metrics_in([*panel_queries(), *variable_queries(), *alert_queries().values()])
    assert len(wanted) >= 12
    assert wanted - shown == set()


# --- a real Prometheus --------------------------------------------------------------------------


@pytest.fixture
def prometheus(served, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that reads the stack every half second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no 'prometheus' on PATH (Debian: apt-get install prometheus)")
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{served.settings.port}"]}]
    (tmp_path / "rules.yaml").write_text((FOLDER / "rules.yaml").read_text())
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={tmp_path}/prometheus.yaml",
        f"--web.listen-address={address}",
    ]
    command.append(f"--storage.tsdb.path={tmp_path}/tsdb")
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def answered(prometheus: str, query: str) -> list[dict]:
    try:
        said = httpx.get(f"{prometheus}/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return []  # it starts
    if said.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return []  # it replays its log
    answer = said.json()
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


@pytest.mark.thorough
def test_a_real_prometheus_answers_every_panel_and_alerts(served, prometheus: str) -> None:
    served.until(lambda: len(answered(prometheus, "up == 1")) == 3, "all are scraped")
    served.predict(50)
    silent = []
    for query in panel_queries():
        asked = query.replace("$pipeline", "digits").replace("[1m]", "[5s]")
        try:
            served.until(lambda asked=asked: answered(prometheus, asked) != [], asked)
        except BaseException as error:  # noqa: BLE001 (all of them are named at once)
            silent.append((query, error))
    assert silent == []

    def firing() -> set[str]:
        return {one["metric"]["alertname"] for one in answered(prometheus, "ALERTS")}

    def fires_under_load() -> bool:
        served.predict(5)  # a counter that Prometheus sees for the first time has not risen yet
        return {"SlipwayRolloutWillNotEndInTime", "SlipwayServedErrors"} <= firing()

    # those wait for their time or fire at once; nothing is said of what is not so
    served.until(fires_under_load, "alerts")
    assert "SlipwayRolloutRolledBack" not in firing()
    a_rollout(looked_at=datetime.now(UTC), state="rolled back").write(served.layout.rollout)
    served.until(lambda: "SlipwayRolloutRolledBack" in firing(), "the roll-back is told")


@pytest.mark.thorough
def test_the_judge_counts_what_a_real_prometheus_has(served, prometheus: str, tmp_path) -> None:
    served.until(lambda: len(answered(prometheus, "up == 1")) == 3, "all are scraped")

    def of(version: int, metric: str, more: str = "") -> str:
        return f'{metric}{{envoy_cluster_name="digits/{version}"{more}}}'

    requests, errors = "envoy_cluster_upstream_rq_xx", ',envoy_response_code_class="5"'
    given = {"rollout": "digits"}
    for arm, version in (("canary", 2), ("stable", 1)):
        given[f"{arm}_requests"] = f"sum({of(version, requests)})"
        given[f"{arm}_errors"] = f"sum({of(version, requests, errors)})"
        buckets = of(version, "envoy_cluster_upstream_rq_time_bucket")
        given[f"{arm}_latency_buckets"] = f"sum by (le) ({buckets})"
    desk = Desk(
        Adviser(tmp_path / "judge", DeployConfig()),
        Prometheus(prometheus),
        lambda: datetime.now(UTC),
    )
    query = str(given["canary_requests"])
    served.until(
        lambda: answered(prometheus, query)[0]["value"][1] == str(served.seen(2).requests), "read"
    )
    found = desk._question(given)
    for counted, version in ((found.canary, 2), (found.stable, 1)):
        seen = served.seen(version)
        assert (counted.requests, counted.errors) == (seen.requests, seen.errors)
        assert counted.latency_bounds_ms == seen.latency_bounds_ms
        assert counted.latency_total == seen.latency_total
    assert desk.ask(given, False).decision == "continue"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no 'promtool' on PATH")
def test_promtool_accepts_the_rules() -> None:
    command = ["promtool", "check", "rules", str(FOLDER / "rules.yaml")]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
