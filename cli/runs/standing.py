"""The state of a pipeline: its runs, its kept versions, its traffic plan and observed traffic."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from cli.runs.outcome import read_result
from cli.runs.progress import number
from cli.runs.run_states import Airflow, ask_airflow, state_of
from cli.stack.stack_file import open_agent, read_stack, run_root
from contract.errors import DataError, NotFoundError, ServiceUnavailableError
from contract.layout import PipelineLayout, RunLayout
from contract.records.package import PackageManifest
from contract.records.stack import Stack
from contract.records.traffic import Observation, TrafficPlan
from contract.steps import STEPS
from contract.storage import size_bytes

STATUS_PATIENCE_SECONDS = 2.0
_NO_VOLUME = "{} is not mounted here: runs and kept versions are not shown, only what is served"
_NO_AGENT = "the serving agent does not answer; this is the stored plan"
_NOBODY_ANSWERS = "services are not running, so no requests are answered; this is the stored plan"


def standing_of(name: str, most_runs: int) -> dict[str, Any]:
    """Return everything that `slipway status` shows of this machine, as JSON."""
    return standing_in(PipelineLayout(run_root(), name), read_stack(), most_runs)


def standing_in(pipeline: PipelineLayout, stack: Stack | None, most_runs: int) -> dict[str, Any]:
    """Return everything that `slipway status` shows where these services are, as JSON."""
    plan, observation, problem = _traffic(pipeline, stack)
    airflow = ask_airflow(stack, pipeline.pipeline, most_runs)
    absent = "" if stack is None or pipeline.root.is_dir() else _NO_VOLUME.format(pipeline.root)
    return {
        "pipeline": pipeline.pipeline,
        "champion": plan.champion,
        "plan": plan.model_dump(mode="json"),
        "observation": observation.model_dump(mode="json") if observation else None,
        "problem": "; ".join(filter(None, (problem, airflow.problem, absent))),
        "versions": [_version(pipeline, number) for number in pipeline.kept_versions()],
        "runs": [_run(run, plan, airflow) for run in _runs(pipeline, airflow)[:most_runs]],
    }


def champion_of(pipeline: PipelineLayout) -> int:
    """Return the version in service.

    Raises:
        NotFoundError: If nothing is in service.
    """
    plan, _, _ = _traffic(pipeline, read_stack())
    if plan.champion is None:
        raise NotFoundError(
            f"{pipeline.pipeline}: no version is in service; name a kept version with --version, "
            "or "
            f"deploy one with 'slipway run {pipeline.pipeline}'"
        )
    return plan.champion


def latest_runs(pipeline: PipelineLayout) -> list[RunLayout]:
    """Return the pipeline's runs, newest first."""
    folders = sorted(pipeline.runs.glob("*/"), key=lambda p: p.stat().st_mtime, reverse=True)
    return [pipeline.run(folder.name) for folder in folders if not folder.name.startswith(".")]


def render(standing: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the tables of a standing."""
    yield in_words(TrafficPlan.model_validate(standing["plan"]))
    if standing["problem"]:
        yield f"[yellow]{escape(standing['problem'])}[/]"
    for problem in (standing["observation"] or {}).get("problems", ()):
        yield f"[red]{escape(problem)}[/]"
    if standing["versions"]:
        yield _versions_table(standing)
    yield _runs_table(standing)
    for run in standing["runs"]:
        reason = escape("; ".join(run["reasons"]))
        if run["failed_step"]:
            yield f"[red]{run['run_id']} failed in '{run['failed_step']}':[/] {reason}"
        elif reason and run["outcome"] != "promoted":
            yield f"{run['run_id']} {run['outcome']}: {reason}"


def _traffic(
    pipeline: PipelineLayout, stack: Stack | None
) -> tuple[TrafficPlan, Observation | None, str]:
    if stack is not None and stack.agent_url:
        try:
            with open_agent(stack, STATUS_PATIENCE_SECONDS) as agent:
                plan = agent.plan(pipeline.pipeline)
                observed = agent.observation(pipeline.pipeline) if plan.generation else None
                return plan, observed, ""
        except ServiceUnavailableError as error:
            is_cluster = stack != read_stack()  # its Envoys answer without the agent
            problem = _NO_AGENT if is_cluster else _NOBODY_ANSWERS
            return stored_plan(pipeline), None, f"{problem}: {error}"
    return stored_plan(pipeline), None, f"{_NOBODY_ANSWERS}: start them with 'slipway up'"


def stored_plan(pipeline: PipelineLayout) -> TrafficPlan:
    """Return the plan on storage, or its copy; an empty one if there is none."""
    try:
        return TrafficPlan.read(pipeline.traffic_plan)
    except NotFoundError:
        return TrafficPlan(pipeline=pipeline.pipeline)
    except DataError:  # the serving agent puts the copy in its place when it starts
        return TrafficPlan.read(pipeline.good_traffic_plan)


def _version(pipeline: PipelineLayout, number: int) -> dict[str, Any]:
    manifest = PackageManifest.read(pipeline.package_manifest(number))
    return {
        "version": number,
        "created_at": manifest.created_at.isoformat(),
        "run_id": manifest.provenance.run_id,
        "from_version": manifest.provenance.from_version,
        "metrics": manifest.metrics,
        "size_bytes": size_bytes(pipeline.version(number) / manifest.model),
    }


def _runs(pipeline: PipelineLayout, airflow: Airflow) -> list[RunLayout]:
    """Return the runs that Airflow has queued and that have no folder, then all, newest first."""
    found = latest_runs(pipeline)
    known = {run.path.name for run in found}
    waiting = [pipeline.run(run_id) for f, run_id in airflow.run_ids.items() if f not in known]
    return [*(run for run in waiting if airflow.states[run.path.name] == "queued"), *found]


def _run(run: RunLayout, plan: TrafficPlan, airflow: Airflow) -> dict[str, Any]:
    results = {step: read_result(run, step) for step in STEPS}
    done = [result for result in results.values() if result is not None]
    run_id = done[0].run_id if done else airflow.run_ids.get(run.path.name, run.run_id)
    ending = state_of(replace(run, run_id=run_id), plan, airflow)
    return {
        "run_id": run_id,
        "started_at": min((r.started_at for r in done), default=None),
        "seconds": sum(r.seconds for r in done),
        "steps_done": [step for step, result in results.items() if result is not None],
        "outcome": ending.outcome,
        "version": ending.version,
        "failed_step": ending.failed_step,
        "reasons": ending.reasons,
    }


def _versions_table(standing: Mapping[str, Any]) -> Table:
    table = _table("Version", "Made", "Size", "Metrics", "Requests", "Errors", "")
    seen = {v["version"]: v for v in (standing["observation"] or {}).get("versions", ())}
    for version in standing["versions"]:
        number = version["version"]
        counters = seen.get(number)
        table.add_row(
            str(number),
            _time(version["created_at"]),
            f"{version['size_bytes'] / 1024:,.0f} KiB",
            _figures(version["metrics"]),
            str(counters["requests"]) if counters else "",
            str(counters["errors"]) if counters else "",
            _role(TrafficPlan.model_validate(standing["plan"]), number),
        )
    return table


def _role(plan: TrafficPlan, version: int) -> str:
    """Return what a version is in the plan, in words; empty for one that is only kept."""
    if version == plan.champion:
        return "champion"
    if (mark := plan.mark_of(version)) is not None:
        return f"bad: {escape(mark.author or 'somebody')} rolled back from it"
    trial = plan.canary or plan.shadow
    if trial is not None and trial.version == version:
        return "canary" if plan.canary else "shadow"
    return "on standby" if version in plan.standby else ""


def _runs_table(standing: Mapping[str, Any]) -> Table:
    table = _table("Run", "Started", "Work", "Outcome", "Version", "Last step")
    for run in standing["runs"]:
        table.add_row(
            run["run_id"],
            _time(run["started_at"]),
            f"{run['seconds']:.0f} s",
            run["outcome"],
            str(run["version"] or ""),
            run["steps_done"][-1] if run["steps_done"] else "",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("Size", "Requests") else "left")
    return table


def _figures(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in metrics.items())


def _time(moment: datetime | str | None) -> str:
    if moment is None:
        return ""
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{parsed.astimezone():%Y-%m-%d %H:%M}"


def in_words(plan: "TrafficPlan") -> str:
    """Return a plan as one line: which versions get traffic, and why."""
    arms = [f"{arm.name} version {arm.version} {arm.weight_percent} %" for arm in plan.arms]
    shadow = plan.shadow
    copies = f"; {shadow.percent} % is copied to shadow version {shadow.version}" if shadow else ""
    reason = f" by {plan.author}: {plan.reason}" if plan.author else ""
    paused = f"; paused by {plan.hold.author or 'somebody'}" if plan.hold else ""
    if plan.hold and plan.hold.reason:
        paused += f" ({plan.hold.reason})"
    gone = f"; {plan.withdrawn.in_words}" if plan.withdrawn else ""
    return (
        f"[bold]{plan.pipeline}[/]: {', '.join(arms) or 'nothing is in service'}{copies} "
        f"(plan {plan.generation}{escape(reason)}{escape(paused)}{escape(gone)})"
    )
