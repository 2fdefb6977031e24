"""What `slipway check` reports on the clusters of the runtime that SLIPWAY_RUNTIME names."""

import asyncio
from collections.abc import Iterator

from cli.checks.findings import Finding
from contract.errors import SlipwayError
from contract.schema.cluster import KubernetesConfig
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

    reports = asyncio.run(cluster_reports(runtime.kubernetes, config.train))
    for name, report in reports.items():
        yield from (Finding("clusters", "warning", f"{name}: {text}") for text in report.warnings)
        yield from (Finding("clusters", "error", f"{name}: {text}") for text in report.problems)
        if not report.problems:
            settings = runtime.kubernetes.clusters[name]
            place = f"context '{settings.context or 'in-cluster'}', namespace {settings.namespace}"
            yield Finding("clusters", "ok", f"{name}: {place}: accepts the pods of every step")
    if not any(report.problems for report in reports.values()):
        yield from _check_storage(runtime.kubernetes, runtime.root)


def _check_storage(kubernetes: KubernetesConfig, root: str) -> Iterator[Finding]:
    """Yield what short pods find on the storage of runs."""
    from launching.cluster.storage_check import storage_report

    try:
        found = asyncio.run(storage_report(kubernetes, root))
    except SlipwayError as error:
        yield from (Finding("clusters", "error", line) for line in str(error).splitlines())
        return
    yield from (Finding("clusters", "warning", text) for text in found.warnings)
    yield from (Finding("clusters", "error", text) for text in found.problems)
    yield from (Finding("clusters", "ok", text) for text in found.said)
