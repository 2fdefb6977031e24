"""`python -m components.package`: a directory that a server starts from, as a new version."""

import shutil

from components.runs.step import Outcome, Step, main
from contract.layout import PACKAGE_MANIFEST
from contract.records.package import PackageRecord

_SHOWN_INPUTS = 3


def work(step: Step) -> Outcome:
    """Package what the run optimised, or `--redeploy-version` once more; keep it if it passes."""
    from components.package.contents import of_run, of_version
    from components.package.load_test import LOAD_PICTURE, LOAD_REPORT
    from components.package.package import SERVER_LOG, Workplace, package

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
    if step.tracker.is_on:
        from components.package.load_picture import draw  # imports matplotlib

        title = f"{layout.pipeline}, version {record.version}"
        step.tracker.log_figure(draw(record.load, title), LOAD_PICTURE)
    return Outcome(
        record,
        artifacts={"manifest": PACKAGE_MANIFEST, "load_report": LOAD_REPORT},
        metrics=_figures(record),
        reasons=_reasons(record),
    )


def _reasons(record: PackageRecord) -> tuple[str, ...]:
    """Return what a person should know of a package that is kept."""
    skipped, callers = record.skew_skipped_because, record.callers
    reasons = [f"no skew check: {skipped}"] if skipped else []
    if callers is None:
        return tuple(reasons)
    reasons += [f"{engine} is left out: {why}" for engine, why in callers.left_out.items()]
    unanswered = dict.fromkeys(
        f"'{one.feature}' ({one.what})" if one.feature else one.what for one in callers.unanswered
    )
    if unanswered:
        shown = ", ".join(list(unanswered)[:_SHOWN_INPUTS])
        more = len(unanswered) - _SHOWN_INPUTS
        reasons.append(
            f"callers get 400 for {shown}{f' and {more} more' if more > 0 else ''}: "
            "result.json has the reasons"
        )
    return tuple(reasons)


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
        **{f"load_{name}_ms": taken for name, taken in load.spans_ms.items()},
    }
    return figures if record.skew_skipped_because else {**figures, "max_skew": record.max_skew}


if __name__ == "__main__":
    main("package", work)
