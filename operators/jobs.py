"""The operators of jobs on a cluster: they defer at once, and the triggerer drives the job."""

import time
from typing import Any

from airflow.sdk import BaseOperator

from contract.command import StepCommand
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.own_packages import with_own_packages
from contract.pod_storage import make_folders
from contract.schema.cluster import KubernetesConfig
from contract.storage import Attempt
from launching.cluster.kinds import RESOURCES, check_kind
from launching.job_spec import JobSpec, job_of
from launching.own_result import Ending, own_result
from operators.component import PipelineRef, airflow_errors
from operators.run_request import RunRequest
from operators.task_identity import TaskIdentity
from operators.triggers import EvaluationTrigger, JobTrigger

_LONGEST_SECONDS = 7 * 24 * 3600.0


class JobOperator(BaseOperator):
    """Runs a step as a job of pods; succeeds if and only if its chief left the `result.json`.

    The worker only describes the job; creating, following and removing it is the trigger's. So
    there is one place that can lose it, and the next process adopts it by its name.
    """

    ui_color = "#e7f0fa"
    trigger_class = JobTrigger

    def __init__(
        self, *, pipeline: PipelineRef, kubernetes: KubernetesConfig, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.kubernetes = kubernetes

    def build(self, identity: TaskIdentity, run: RunLayout) -> JobSpec:
        """Return the job that the step of a frozen run is."""
        python = self.kubernetes.pod_of(self.task_id).python
        settings = self.kubernetes.job
        job = job_of(identity.job_name, self._command(run), load_frozen(run), settings, python)
        assert job is not None, f"{self.task_id} is not a job"
        check_kind(job)
        command = with_own_packages(run.frozen_pipeline, python, job.command)
        return job.model_copy(update={"labels": identity.labels, "command": command})

    def execute(self, context: Any) -> None:
        """Describe the job and defer to the trigger that drives it."""
        identity = TaskIdentity.of(context, self.retries or 0)
        with airflow_errors():
            RunRequest.of(context["dag_run"].conf)
            run = self.pipeline.run(identity.run_id)
            job = self.build(identity, run)
            make_folders(job.storage)
        trigger = self.trigger_class(
            job=job.model_dump(mode="json"),
            # unset stays unset: a role's default must not win over what `pod` says
            kubernetes=self.kubernetes.model_dump(mode="json", exclude_unset=True),
            cluster=self.kubernetes.cluster_of.get(self.task_id, self.kubernetes.default_cluster),
            resource=RESOURCES[job.settings.kind],
            generation=identity.generation,
            attempt=identity.attempt,
            earlier=Attempt.newest(run.attempts(self.task_id)),
            deadline=time.time() + _seconds(self.execution_timeout),
            training_ended=str(run.training_ended),
        )
        self.defer(trigger=trigger, method_name="resume")

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Judge the end of the job by the record that it left."""
        run = self.pipeline.run(str(context["run_id"]))
        ending = Ending(event["exit_code"], event["complaints"])
        with airflow_errors():
            result = own_result(self._command(run), run, event["earlier"], ending)
        summary = {
            "metrics": result.metrics,
            "reasons": list(result.reasons),
            "seconds": result.seconds,
        }
        context["ti"].xcom_push(key="summary", value=summary)
        return summary

    def _command(self, run: RunLayout) -> StepCommand:
        return StepCommand(self.task_id, run.pipeline, run.run_id, self.pipeline.root)


class EvaluateJobOperator(JobOperator):
    """Judges checkpoints while they are made, on a separate cluster if the runtime says so."""

    trigger_class = EvaluationTrigger


def _seconds(timeout: Any) -> float:
    return timeout.total_seconds() if timeout is not None else _LONGEST_SECONDS
