"""`python -m components.deploy --stage canary|promote`: the package on its way to all traffic."""

import os
from collections.abc import Mapping
from pathlib import Path

from components.runs.step import Outcome, Step, main
from contract.addresses import AGENT_TOKEN_FILE, AGENT_URL, rollout_page
from contract.errors import UserError
from contract.layout import PipelineLayout
from contract.records.evaluation import BlessRecord
from contract.records.package import PackageManifest, PackageRecord
from contract.records.record import Record
from contract.records.traffic import DeployRecord, LadderStep


def work(step: Step) -> Outcome:
    """Run one of the two stages; a version that is turned away is a result, not an error."""
    from components.deploy.canary.canary import deploy
    from components.deploy.deployment import Deployment
    from components.deploy.promote.promote import promote
    from components.runs.agent_client import AgentClient

    package = step.upstream("package", PackageRecord)
    layout = step.run.of_pipeline
    url, token_file = _agent(os.environ)
    step.tracker.set_tag("slipway.rollout", rollout_page(url, layout.pipeline))
    author = step.run.author
    with AgentClient.with_token_file(url, token_file, author) as client:
        deployment = Deployment(
            client=client,
            layout=layout,
            config=step.config,
            manifest=PackageManifest.read(layout.package_manifest(package.version)),
            bless=None if step.redeploy_version else step.upstream("bless", BlessRecord),
            author=author,
            output=step.output,
            tracker=step.tracker,
            check_attempt=step.attempt.check,
        )
        if step.name == "promote":
            record = promote(deployment, step.upstream("canary", DeployRecord))
            return Outcome(record, reasons=_in_words(record))
        record, figures = deploy(deployment)
    _track(step, record.ladder)
    _draw(step, layout, package.version)
    return Outcome(record, _artifacts(step.output), figures, _in_words(record))


def _agent(environment: Mapping[str, str]) -> tuple[str, Path]:
    names = (AGENT_URL, AGENT_TOKEN_FILE)
    if missing := [name for name in names if not environment.get(name)]:
        raise UserError(
            f"{' and '.join(missing)}: not set, expected the serving agent's address and the file "
            "with its token; 'make up' starts one and 'slipway run' sets them"
        )
    return environment[names[0]], Path(environment[names[1]])


def _artifacts(output: Path) -> dict[str, str]:
    from components.deploy.canary.state import STATE_FILE

    return {"state": STATE_FILE} if (output / STATE_FILE).exists() else {}


def _track(step: Step, ladder: tuple[LadderStep, ...]) -> None:
    if not ladder:
        return
    names = [name for name in LadderStep.model_fields if name not in Record.model_fields]
    step.tracker.log_table({n: [getattr(s, n) for s in ladder] for n in names}, "ladder.json")
    for rung in ladder:
        figures = {"rung_requests": rung.requests, "rung_errors": rung.errors}
        step.tracker.log_metrics(figures, step=rung.weight_percent)


def _draw(step: Step, layout: PipelineLayout, version: int) -> None:
    """Upload the picture of the weights over time, if the run is tracked."""
    from components.deploy.canary.picture import draw
    from components.deploy.canary.teller import last_rollout

    if step.tracker.is_on and (rollout := last_rollout(layout, version)) is not None:
        step.tracker.log_figure(draw(rollout), "rollout.png")


def _in_words(record: DeployRecord) -> tuple[str, ...]:
    return (record.outcome.replace("_", " "), *record.reasons)


if __name__ == "__main__":
    main("deploy", work)
