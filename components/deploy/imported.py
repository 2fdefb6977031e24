"""An imported version on its way to all traffic, without a pipeline and its run.

The same canary and the same promotion as of a trained version, with records at the same places, so
that `slipway promote`, `rollout` and `status` find them.
"""

import logging
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from components.deploy.canary.canary import deploy
from components.deploy.deployment import Deployment
from components.deploy.promote.promote import promote
from components.runs.agent_client import AgentClient
from components.runs.tracking import Tracker
from contract.errors import NotFoundError, UserError
from contract.layout import PipelineLayout, RunLayout
from contract.records.package import PackageManifest
from contract.records.record import Result
from contract.records.traffic import DeployRecord
from contract.schema.imported import DeployingConfig
from contract.storage import Attempt

log = logging.getLogger("slipway")


def deploy_imported(
    layout: PipelineLayout,
    version: int,
    settings: DeployingConfig,
    agent_url: str,
    agent_token_file: str,
) -> DeployRecord:
    """Try a kept version on real traffic, and promote it if it passes; return how that ended.

    A trial that was interrupted before a decision is continued. With `deploy.requires_approval` a
    version that has passed waits for `slipway promote`.

    Raises:
        NotFoundError: If the version is not kept.
        UserError: If a run of a pipeline made it: its trial and its record are that run's.
        ServiceUnavailableError: If the agent does not answer, or the plan is not followed.
    """
    layout.check_kept(version)
    manifest = PackageManifest.read(layout.package_manifest(version))
    _check_origin(manifest)
    run = layout.run(manifest.provenance.run_id)
    _forget_decided(run)
    attempt = Attempt.claim(run.attempts("canary"))
    run.step("canary").mkdir(parents=True, exist_ok=True)
    client = AgentClient.with_token_file(agent_url, Path(agent_token_file), run.author)
    with client:
        deployment = Deployment(
            client=client,
            layout=layout,
            config=settings,
            manifest=manifest,
            bless=None,
            author=run.author,
            output=run.step("canary"),
            tracker=Tracker(),
            check_attempt=attempt.check,
        )
        started, began = datetime.now(UTC), time.monotonic()
        record, figures = deploy(deployment)
        _write(run, "canary", attempt, started, time.monotonic() - began, record, figures)
        if not record.has_passed or settings.deploy.requires_approval:
            return record
        started, began = datetime.now(UTC), time.monotonic()
        record = promote(deployment, record)
        run.step("promote").mkdir(parents=True, exist_ok=True)
        _write(run, "promote", attempt, started, time.monotonic() - began, record, {})
        return record


def _check_origin(manifest: PackageManifest) -> None:
    """Refuse what `bless` judges: here it would get traffic unjudged, by other settings."""
    if manifest.provenance.has_run:
        name, version = manifest.pipeline, manifest.version
        raise UserError(
            f"{name}: version {version} was made by run '{manifest.provenance.run_id}' of a "
            f"pipeline, which deploys it itself; to give it all traffic: slipway promote {name} "
            f"--version {version}"
        )


def _forget_decided(run: RunLayout) -> None:
    """Let a version be tried again; a trial without a decision keeps its state."""
    try:
        Result.read(run.result("canary"))
    except NotFoundError:
        return
    for step in ("canary", "promote"):
        shutil.rmtree(run.step(step), ignore_errors=True)


def _write(  # noqa: PLR0913 (what a result has)
    run: RunLayout,
    step: str,
    attempt: Attempt,
    started: datetime,
    seconds: float,
    record: DeployRecord,
    figures: dict[str, float],
) -> None:
    Result(
        step=step,
        pipeline=run.pipeline,
        run_id=run.run_id,
        attempt=attempt.number,
        started_at=started,
        seconds=seconds,
        inputs={},
        metrics=figures,
        reasons=(record.outcome.replace("_", " "), *record.reasons),
        detail=record.model_dump(mode="json"),
    ).write(run.result(step))
