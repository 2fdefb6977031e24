"""Which services a command speaks to: those of this machine, or a cluster's."""

from pathlib import Path

import pytest
import yaml

from cli.checks.preflight import is_on_kubernetes
from cli.runs.standing import standing_in
from cli.stack.stack_file import (
    open_agent,
    served_pipeline,
    shown_pipeline,
    stack_path,
    tracking_environment,
)
from contract.errors import ServiceUnavailableError
from contract.records.stack import Stack

KUBERNETES = {
    "kind": "kubernetes",
    "root": "/slipway/artifacts",
    "kubernetes": {
        "clusters": {"eval": {"context": "eval", "namespace": "team"}},
        "default_cluster": "eval",
        "pod": {"image": "i:1"},
    },
}


@pytest.fixture
def on_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime file for Kubernetes, beside services of this machine that run."""
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(KUBERNETES))
    monkeypatch.setenv("SLIPWAY_RUNTIME", str(path))
    Stack(root=str(tmp_path), agent_url="http://127.0.0.1:9").write(stack_path())


def test_without_a_clusters_runtime_they_are_this_machines(tmp_path: Path) -> None:
    Stack(root=str(tmp_path), agent_url="http://127.0.0.1:9").write(stack_path())
    layout, stack = served_pipeline("digits")
    assert (layout.root, stack.agent_url) == (tmp_path, "http://127.0.0.1:9")
    assert not is_on_kubernetes()


@pytest.mark.usefixtures("on_kubernetes")
def test_a_clusters_agent_is_reached_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    monkeypatch.setenv("SLIPWAY_AGENT_URL", "http://127.0.0.1:8600")
    monkeypatch.setenv("SLIPWAY_AGENT_TOKEN_FILE", str(token))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    layout, stack = served_pipeline("digits")
    assert shown_pipeline("digits") == (layout, stack)
    assert layout.root == Path("/slipway/artifacts")
    assert stack.agent_url == "http://127.0.0.1:8600"
    with open_agent(stack) as client:
        assert "http://127.0.0.1:8600" in repr(client)
    # user and password of MLflow stay as they are in the environment
    assert tracking_environment(stack) == {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
    assert is_on_kubernetes()


@pytest.mark.usefixtures("on_kubernetes")
def test_a_clusters_agent_without_an_address_is_refused_with_the_command() -> None:
    expected = (
        "SLIPWAY_AGENT_URL and SLIPWAY_AGENT_TOKEN_FILE not set: .*"
        "'kubectl -n team port-forward service/slipway-agent 8600'"
    )
    with pytest.raises(ServiceUnavailableError, match=expected):
        served_pipeline("digits")


@pytest.mark.usefixtures("on_kubernetes")
def test_a_model_of_a_cluster_is_shown_where_its_volume_is_not_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("SLIPWAY_AGENT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SLIPWAY_AGENT_TOKEN_FILE", str(tmp_path / "token"))
    layout, stack = shown_pipeline("unknown-here")
    monkeypatch.setattr("cli.runs.standing.STATUS_PATIENCE_SECONDS", 0.01)
    standing = standing_in(layout, stack, 5)
    assert standing["versions"] == standing["runs"] == []
    assert standing["problem"].startswith("the serving agent does not answer")
    assert "/slipway/artifacts is not mounted here: runs and kept versions" in standing["problem"]


def test_without_services_what_is_stored_is_shown() -> None:
    layout, stack = shown_pipeline("digits")
    assert (layout.pipeline, stack) == ("digits", None)
