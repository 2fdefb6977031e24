"""The operator that runs a component as one pod, on top of the provider's KubernetesPodOperator."""

import contextlib
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from contract.clients.cluster import client_problem
from contract.clients.cluster_errors import our_errors
from contract.command import StepCommand
from contract.errors import ConfigError, ConflictError, NotFoundError, SlipwayError
from contract.layout import RunLayout
from contract.own_packages import with_own_packages
from contract.pod_storage import FolderAccess, make_folders, step_access
from contract.pod_templates import CONTAINER, Manifest
from contract.pods import Inside, pod
from contract.records.record import Result
from contract.schema.cluster import ClusterConfig, KubernetesConfig
from contract.storage import Attempt
from launching.cluster.manifests import ATTEMPT, GENERATION, TASK
from launching.own_result import Ending, own_result
from operators.component import PipelineRef, airflow_errors
from operators.run_request import RunRequest
from operators.task_identity import TaskIdentity
from operators.triggers import PodTrigger

_REMOVAL_SECONDS = 60.0
_LOOK_SECONDS = 0.5
_NOT_FOUND, _CONFLICT = 404, 409


class _OvertakenError(SlipwayError):
    """A later attempt holds the pod."""


class ComponentPodOperator(KubernetesPodOperator):
    """Runs one step of a run as one pod; the task id is the step's name.

    From the provider: building, creating, deferring and cleaning up. Ours is who owns the pod (its
    name collides with any other of the same generation, and only the attempt that holds it may
    delete it) and what success is: the step's own `result.json`, whatever became of the pod.
    """

    ui_color = "#e7f0fa"
    trigger_class = PodTrigger

    def __init__(
        self, *, task_id: str, pipeline: PipelineRef, kubernetes: KubernetesConfig, **kwargs: Any
    ) -> None:
        cluster = kubernetes.cluster(task_id)
        super().__init__(
            task_id=task_id,
            kubernetes_conn_id=None,
            in_cluster=not (cluster.context or cluster.kubeconfig),
            cluster_context=cluster.context or None,
            config_file=cluster.kubeconfig or None,
            namespace=cluster.namespace,
            random_name_suffix=False,
            base_container_name=CONTAINER,
            deferrable=True,
            get_logs=False,  # the trigger has passed them on already
            log_pod_spec_on_failure=False,
            termination_grace_period=kubernetes.job.grace_seconds,
            **kwargs,
        )
        self.pipeline = pipeline
        self.kubernetes = kubernetes
        self._attempt = self._earlier = 0
        self._labels: dict[str, str] = {}

    # --- building ---

    def command(self, run_id: str, request: RunRequest) -> StepCommand:
        """Return what to run."""
        return self.pipeline.command(self.task_id, run_id, request)

    def manifest(self, identity: TaskIdentity, command: StepCommand) -> Manifest:
        """Return the step's pod."""
        run = self.pipeline.run(identity.run_id)
        config = self.kubernetes.pod_of(self.task_id)
        labels = {**identity.labels, GENERATION: str(identity.generation)}
        of_step = command.arguments(config.python)
        words = with_own_packages(run.frozen_pipeline, config.python, of_step)
        inside = Inside(identity.job_name, words, labels, storage=self._storage(run))
        made = pod(config, self.kubernetes.volumes, inside)
        made["metadata"]["annotations"] = {ATTEMPT: str(identity.attempt)}
        if self.execution_timeout is not None:
            made["spec"]["activeDeadlineSeconds"] = int(self.execution_timeout.total_seconds())
        return made

    # --- running ---

    def execute(self, context: Any) -> Any:
        """Create or adopt the pod, and defer."""
        identity = TaskIdentity.of(context, self.retries or 0)
        with airflow_errors():
            request = RunRequest.of(context["dag_run"].conf)
            run = self.pipeline.run(identity.run_id)
            self._attempt, self.name = identity.attempt, identity.job_name
            self._earlier = Attempt.newest(run.attempts(self.task_id))
            make_folders(self._storage(run))
            self.pod_template_dict = self.manifest(identity, self.command(identity.run_id, request))
            self._labels = identity.labels
            return super().execute(context)

    def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
        """Create the pod; one of that name is adopted if it lives, and replaced if it has ended."""
        del context
        with airflow_errors():
            with self._our_errors():
                self._remove_earlier_generations(int(pod_request_obj.metadata.labels[GENERATION]))
            until = time.monotonic() + _REMOVAL_SECONDS
            while True:
                try:
                    with self._our_errors():
                        return self.client.create_namespaced_pod(self.namespace, pod_request_obj)
                except ConflictError:
                    if time.monotonic() > until:
                        raise
                if (found := self._adopted(pod_request_obj.metadata.name)) is not None:
                    return found
                time.sleep(_LOOK_SECONDS)

    def defer(self, *, trigger: Any, method_name: str, **kwargs: Any) -> Any:
        """Defer to our own trigger instead of the provider's."""
        kubernetes = self.kubernetes
        ours = self.trigger_class(
            pod=trigger.pod_name,
            kubernetes=kubernetes.model_dump(mode="json", exclude_unset=True),
            cluster=kubernetes.cluster_of.get(self.task_id, kubernetes.default_cluster),
            labels=self._labels,
            attempt=self._attempt,
            earlier=self._earlier,
            deadline=trigger.trigger_kwargs.get("_execution_deadline", time.time() + 7 * 86400),
        )
        super().defer(trigger=ours, method_name=method_name, **kwargs)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Clean up, and judge the end of the pod by the record that its step left."""
        run_id = str(context["run_id"])
        run = self.pipeline.run(run_id)
        self._attempt = event["attempt"]
        try:
            super().trigger_reentry(context, event)
        except (AirflowException, ApiException, ConfigException, HTTPError) as error:
            self.log.info("The provider: %s (the step's record decides)", str(error)[:300])
        ending = Ending(event["exit_code"], event["complaints"])
        with airflow_errors():
            request = RunRequest.of(context["dag_run"].conf)
            result = own_result(self.command(run_id, request), run, event["earlier"], ending)
        summary = {
            "metrics": result.metrics,
            "reasons": list(result.reasons),
            "seconds": result.seconds,
        }
        context["ti"].xcom_push(key="summary", value=summary)
        self.conclude(result, context)
        return summary

    def conclude(self, result: Result, context: Any) -> None:
        """Draw the consequences of the step's result; some steps have something to do."""

    def on_kill(self) -> None:
        """Delete the pod, if it is still this attempt's: a late kill of an orphan is not."""
        if self.pod is not None:
            self._delete_own(self.pod)

    def process_pod_deletion(self, pod: Any, *, reraise: bool = True) -> bool:
        """Delete the pod when its end was judged; the provider's own deletes by name alone."""
        try:
            return self._delete_own(pod)
        except (ApiException, HTTPError) as error:
            if reraise:
                raise
            self.log.warning("Pod %s is left to the reaper: %s", pod.metadata.name, error)
            return False

    @cached_property
    def client(self) -> Any:
        """The provider's client; a context that is not there is the runtime file's mistake.

        Raises:
            ConfigError: If there is no such context, or no kubeconfig.
        """
        try:
            return super().client
        except (ConfigException, OSError) as error:
            raise ConfigError([client_problem(self._cluster, error)]) from error

    # --- inside ---

    def _storage(self, run: RunLayout) -> tuple[FolderAccess, ...]:
        return step_access(run.of_pipeline, self.task_id)

    def _adopted(self, name: str) -> Any:
        """Adopt what lives, remove what has ended; None: look again."""
        with contextlib.suppress(NotFoundError, ConflictError), self._our_errors():
            found = self.client.read_namespaced_pod(name, self.namespace)
            if found.metadata.deletion_timestamp is not None:
                return None
            if _attempt_of(found) > self._attempt:
                raise _OvertakenError(
                    f"pod {name}: attempt {self._attempt} was overtaken; not changed"
                )
            if found.status.phase in ("Succeeded", "Failed"):
                self.client.delete_namespaced_pod(name, self.namespace, body=_exactly(found, 0))
                return None
            version = found.metadata.resource_version
            mark = {"resourceVersion": version, "annotations": {ATTEMPT: str(self._attempt)}}
            adopted = self.client.patch_namespaced_pod(name, self.namespace, {"metadata": mark})
            self.log.info("Adopted pod %s, which is already running", name)
            return adopted
        return None

    def _delete_own(self, pod: Any) -> bool:
        """Delete exactly this pod; return False if it, or its name, is another attempt's by now."""
        name, grace_seconds = pod.metadata.name, self.kubernetes.job.grace_seconds
        while True:
            try:
                found = self.client.read_namespaced_pod(name, self.namespace)
                if found.metadata.uid != pod.metadata.uid or _attempt_of(found) != self._attempt:
                    self.log.warning("Pod %s belongs to another attempt: not changed", name)
                    return False
                exactly = _exactly(found, grace_seconds)
                self.client.delete_namespaced_pod(name, self.namespace, body=exactly)
                return True
            except ApiException as error:
                if error.status == _NOT_FOUND:
                    return True
                if error.status != _CONFLICT:  # else: changed since it was looked at
                    raise

    def _remove_earlier_generations(self, generation: int) -> None:
        selector = f"{TASK}={self._labels[TASK]}"
        listed = self.client.list_namespaced_pod(self.namespace, label_selector=selector)
        for found in listed.items:
            if int(found.metadata.labels.get(GENERATION, 0)) < generation:
                self.client.delete_namespaced_pod(found.metadata.name, self.namespace)

    def _our_errors(self) -> contextlib.AbstractContextManager[None]:
        silence = (HTTPError, OSError)
        return our_errors(self._cluster, f"pod {self.name}", ApiException, silence)

    @property
    def _cluster(self) -> ClusterConfig:
        return self.kubernetes.cluster(self.task_id)


def _attempt_of(found: Any) -> int:
    return int((found.metadata.annotations or {}).get(ATTEMPT, 0))


def _exactly(found: Any, grace_seconds: int) -> Mapping[str, Any]:
    metadata = found.metadata
    condition = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
    return {"gracePeriodSeconds": grace_seconds, "preconditions": condition}
