"""The gate that only a person opens."""

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from operators.component import PipelineRef
from operators.notify import Notice, announce


class ApproveOperator(ApprovalOperator):
    """Waits for a person's yes; a no skips the promotion, and stable keeps its traffic."""

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
        task = context["ti"]
        notice = Notice(
            "waits for approval",
            self.pipeline.name,
            task.run_id,
            self.task_id,
            (self.subject,),
            getattr(task, "log_url", ""),
        )
        announce(self.pipeline.notify, notice, context)
        return super().execute(context)
