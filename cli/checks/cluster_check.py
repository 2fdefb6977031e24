"""What `slipway check` reports on the clusters of the runtime that SLIPWAY_RUNTIME names."""

import asyncio
from collections.abc import Iterator

from cli.checks.findings import Finding
from contract.errors import SlipwayError
from contract.schema.pipeline import PipelineConfig
from launching.environment import current_runtime


def check_runtime(config: PipelineConfig) -> Iterator[Finding]:
    """Yield a finding for the runtime file, and for each problem of each of its clusters."""
    try:
        runtime = current_runtime()
    except SlipwayError as error:
        yield from (Finding("runtime", "error", line) for line in str(error).splitlines())
        return
    if runtime.kubernetes is None:
        return
    from launching.cluster.preflight import cluster_reports  # imports the Kubernetes client

    for name, report in asyncio.run(cluster_reports(runtime.kubernetes, config.train)).items():
        yield from (Finding("clusters", "warning", f"{name}: {text}") for text in report.warnings)
        yield from (Finding("clusters", "error", f"{name}: {text}") for text in report.problems)
        if not report.problems:
            settings = runtime.kubernetes.clusters[name]
            place = f"context '{settings.context or 'in-cluster'}', namespace {settings.namespace}"
            yield Finding("clusters", "ok", f"{name}: {place}: accepts the pods of every step")
