"""`python -m components.package`: a directory that a server starts from, as a new version."""

import shutil

from components.runs.step import Outcome, Step, main
from contract.layout import PACKAGE_MANIFEST
from contract.records.package import PackageRecord


def work(step: Step) -> Outcome:
    """Package what the run optimised, or `--redeploy-version` once more; keep it if it passes."""
    from components.package.contents import of_run, of_version
    from components.package.package import LOAD_REPORT, SERVER_LOG, Workplace, package

    if step.redeploy_version is None:
        contents = of_run(step.run, step.config)
    else:
        contents = of_version(step.run, step.config, step.redeploy_version)
    layout = step.run.of_pipeline
    record = package(contents, step.config.package, Workplace(layout, step.output, step.attempt))
    for name in (PACKAGE_MANIFEST, LOAD_REPORT):
        shutil.copy(layout.version(record.version) / name, step.output / name)
    for name in (PACKAGE_MANIFEST, LOAD_REPORT, SERVER_LOG):
        step.tracker.log_artifact(step.output / name)
    skipped = record.skew_skipped_because
    return Outcome(
        record,
        artifacts={"manifest": PACKAGE_MANIFEST, "load_report": LOAD_REPORT},
        metrics=_figures(record),
        reasons=(f"no skew check: {skipped}",) if skipped else (),
    )


def _figures(record: PackageRecord) -> dict[str, float]:
    load = record.load
    figures = {
        "version": float(record.version),
        "load_requests": float(load.requests),
        "load_errors": float(load.errors),
        "load_requests_per_second": load.requests_per_second,
        "load_p50_ms": load.p50_ms,
        "load_p95_ms": load.p95_ms,
        "load_p99_ms": load.p99_ms,
    }
    return figures if record.skew_skipped_because else {**figures, "max_skew": record.max_skew}


if __name__ == "__main__":
    main("package", work)
