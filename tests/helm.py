"""Our chart as Helm renders it, in a process of its own: tests fork, and Go's runtime would not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1] / "docker" / "kubernetes"

Body = dict[str, Any]


class HelmError(Exception):
    """What Helm says against values."""


def rendered(values: Body, namespace: str = "slipway") -> dict[str, Body]:
    """Return the chart's objects by kind and name.

    Raises:
        HelmError: If the values do not fit the chart's schema, or a template refuses them.
    """
    asked = json.dumps({"values": values, "namespace": namespace})
    command = [sys.executable, __file__]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmError(done.stderr)
    texts = json.loads(done.stdout)
    bodies = [body for text in texts for body in yaml.safe_load_all(text) if body]
    found = {f"{body['kind']}/{body['metadata']['name']}": body for body in bodies}
    assert len(found) == len(bodies)
    return found


def _render() -> None:
    from helm_python import Chart, HelmError  # only here: it loads Go's runtime

    asked = json.load(sys.stdin)
    try:
        chart = Chart.load(str(CHART))
        chart.validate_schema(asked["values"])
        texts = chart.render(asked["values"], name="slipway", namespace=asked["namespace"])
    except HelmError as error:
        sys.exit(str(error))
    json.dump(list(texts.values()), sys.stdout)


if __name__ == "__main__":
    _render()
