"""The gate that only a person opens."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from contract.records.record import Result
from contract.records.traffic import Approval, DeployRecord
from operators.component import PipelineRef
from operators.notify import Kind, Notice, announce
from operators.run_note import write_note
from operators.tracked_run import end_tracked_run


class ApproveOperator(ApprovalOperator):
    """Waits for a person's yes; a no skips the promotion, and stable keeps its traffic.

    The answer is a record of the run: a version that a person rejected has not passed.
    """

    def __init__(self, *, pipeline: PipelineRef, **kwargs: Any) -> None:
        reasons = "{{ (ti.xcom_pull(task_ids='canary', key='summary') or {}).get('reasons', []) "
        super().__init__(
            subject=f"Give the new version of '{pipeline.name}' all traffic?",
            body=f"The canary of run `{{{{ run_id }}}}` passed:\n\n{reasons}| join('\n\n') }}}}",
            # A person may take longer than a component.
            **{**kwargs, "execution_timeout": None},
        )
        self.pipeline = pipeline

    def execute(self, context: Any) -> Any:
        """Say that a person is wanted, and wait without holding a worker."""
        self._announce("waits for approval", self.subject, context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Keep the answer; a no ends the run, as a success, with everything after it skipped."""
        if chosen := event.get("chosen_options"):
            self._keep(chosen == [self.APPROVE], event.get("responded_by_user") or {}, context)
        return super().execute_complete(context=context, event=event)

    # --- inside ---------------------------------------------------------------------------------

    def _keep(self, is_approved: bool, user: Mapping[str, Any], context: Any) -> None:
        run = self.pipeline.run(str(context["ti"].run_id))
        tried = Result.read(run.result("canary")).detail_as(DeployRecord)
        answer = Approval(
            version=tried.version,
            is_approved=is_approved,
            who=str(user.get("name") or user.get("id") or ""),
            answered_at=datetime.now(UTC),
        )
        answer.write(run.approval)
        if is_approved:
            return
        reason = f"version {tried.version} passed its canary, but {answer.in_words}"
        write_note(run, "not approved", (reason,))
        end_tracked_run(run, "not approved", reason, has_failed=False)
        self._announce("refused", reason, context)

    def _announce(self, kind: Kind, reason: str, context: Any) -> None:
        task = context["ti"]
        notice = Notice(
            kind,
            self.pipeline.name,
            task.run_id,
            self.task_id,
            (reason,),
            getattr(task, "log_url", ""),
        )
        announce(self.pipeline.notify, notice, context)
