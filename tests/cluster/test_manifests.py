"""What docker/kubernetes holds, shown to a real API server."""

import pytest
import yaml
from clusters import ROOT, TestCluster, for_old_clusters, kustomized
from helm import rendered

FOLDERS = sorted(p.parent.name for p in (ROOT / "docker/kubernetes").glob("*/kustomization.yaml"))


CHART = "chart"


@pytest.mark.parametrize("name", [*FOLDERS, CHART])
def test_an_api_server_would_take_all_of_it(name: str, clusters: dict[str, TestCluster]) -> None:
    cluster = clusters["eval"]
    bodies = kustomized(name) if name != CHART else for_old_clusters(list(rendered({}).values()))
    for body in bodies:
        if body["kind"] != "Namespace":
            body["metadata"]["namespace"] = cluster.namespace
    text = yaml.safe_dump_all(bodies)
    said = cluster.kubectl("apply", "--dry-run=server", "-f", "-", text=text).splitlines()
    assert len(said) == len(bodies) > 1
    assert all(line.endswith("(server dry run)") for line in said)
