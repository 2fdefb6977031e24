"""The first task of a run: check what was asked, freeze it, and see whether there is news."""

import shutil
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator, SkipMixin

from contract.freshness import fingerprint, last_judged_run
from contract.layout import RunLayout
from contract.loader import freeze_pipeline, load_frozen, load_pipeline, state_folder
from contract.pipelines import find_pipeline
from contract.run_rights import check_overrides, check_sources
from contract.steps import redeploying_steps
from contract.storage import local_path
from launching.environment import current_runtime
from launching.housekeeping import remove_old, remove_unused_environments
from operators.component import PipelineRef, airflow_errors
from operators.run_note import write_note
from operators.run_request import RunRequest

# A run that nobody asked for may find that there is nothing to do.
_UNASKED_RUNS = ("scheduled", "backfill")
_EARLIER_PACKAGES = ".slipway"  # below the root: pipelines' packages that Slipway 0.1 put there


class StartOperator(BaseOperator, SkipMixin):
    """Checks the run's `conf`, freezes config and code, and skips what the run does not need.

    A wrong override fails here, at once and for good, before anything runs. A scheduled run that
    finds the same data, labels, config and code as the last run that was judged skips everything.
    A run that deploys a kept version again skips the steps that would make a new one.
    """

    ui_color = "#f4f4f4"
    inherits_from_skipmixin = True

    def __init__(self, *, pipeline: PipelineRef, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    def execute(self, context: Any) -> None:
        """Freeze the run, and skip what it does not need."""
        run, dag_run = self.pipeline.run(str(context["run_id"])), context["dag_run"]
        following = context["task"].get_flat_relatives(upstream=False)
        with airflow_errors():
            request = RunRequest.of(dag_run.conf)
            is_cleared = run.frozen_pipeline.exists()
            if not is_cleared:
                self._freeze(run, request.overrides)
            if request.redeploy_version is not None:
                run.of_pipeline.check_kept(request.redeploy_version)
                self.log.info("Version %d is deployed again", request.redeploy_version)
                redeploying = ("approve", *redeploying_steps())
                making = [t for t in following if t.task_id not in redeploying]
                self.skip(context["ti"], making)
            self._make_room(run)
            has_news = self._has_news(run)
        is_asked_for = is_cleared or request.is_forced or dag_run.run_type not in _UNASKED_RUNS
        if not has_news and not is_asked_for:
            write_note(run, "nothing to do", ("nothing has changed since the last run",))
            shutil.rmtree(run.path)
            self.skip(context["ti"], following)

    def _freeze(self, run: RunLayout, overrides: Mapping[str, Any]) -> None:
        """Freeze config and code, if the run asks for nothing that it may not have."""
        runtime, folder = current_runtime(), find_pipeline(run.pipeline)
        check_overrides(overrides, runtime.runs.overrides)
        check_sources(load_pipeline(folder, overrides), folder, runtime.sources)
        freeze_pipeline(folder, run, overrides)

    def _make_room(self, run: RunLayout) -> None:
        log_days = load_frozen(run).retention.log_days
        earlier = local_path(self.pipeline.root) / _EARLIER_PACKAGES
        removed = [
            *remove_old(state_folder(), run.pipeline, log_days),
            *remove_unused_environments(earlier, log_days),
        ]
        if removed:
            self.log.info("Removed by retention: %d folders of logs or packages", len(removed))

    def _has_news(self, run: RunLayout) -> bool:
        now = fingerprint(run, load_frozen(run))
        now.write(run.fingerprint)
        last = last_judged_run(run.of_pipeline)
        if last is None:
            self.log.info("No run of this pipeline has been judged yet")
            return True
        changes = now.changes_since(last.fingerprint)
        if not changes:
            self.log.info("Nothing has changed since run %s", last.folder)
            return False
        self.log.info("Since run %s: %s", last.folder, "; ".join(changes))
        return True
