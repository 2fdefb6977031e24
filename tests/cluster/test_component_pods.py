"""Component pods on a real cluster: one a generation, and only the attempt that owns it ends it."""

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk.exceptions import AirflowException
from clusters import PYTHON, TestCluster, host_pods, wait_for

from contract.command import StepCommand
from contract.schema.cluster import JobConfig
from operators.component import PipelineRef
from operators.pod_component import ComponentPodOperator
from operators.task_identity import TaskIdentity


class Attempt:
    """One attempt at the task `transform`, up to the pod that it has."""

    def __init__(self, clusters: dict[str, TestCluster], folder: Path, number: int) -> None:
        self.operator = ComponentPodOperator(
            task_id="transform",
            pipeline=PipelineRef("digits", str(folder)),
            kubernetes=host_pods(clusters, folder, job=JobConfig(grace_seconds=1)),
        )
        identity = TaskIdentity("digits", "run-1", "transform", generation=0, attempt=number)
        command = StepCommand("transform", "digits", "run-1", str(folder))
        body = self.operator.manifest(identity, command)
        body["spec"]["containers"][0]["command"] = [PYTHON, "-c", "import time; time.sleep(600)"]
        self.body = PodGenerator.deserialize_model_dict(body)
        self.operator._attempt, self.operator._labels = number, identity.labels
        self.operator.name = identity.job_name

    def pod(self) -> Any:
        self.operator.pod = self.operator.get_or_create_pod(self.body, {})
        return self.operator.pod


def test_a_later_attempt_adopts_the_pod_which_the_earlier_one_can_no_longer_end(
    clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    cluster = clusters["train"]
    first, second = (Attempt(clusters, tmp_path, number) for number in (1, 2))
    made = first.pod()
    wait_for(lambda: cluster.pods()[made.metadata.name]["status"]["phase"] == "Running", 240)
    assert second.pod().metadata.uid == made.metadata.uid
    first.operator.on_kill()
    assert "deletionTimestamp" not in cluster.pods()[made.metadata.name]["metadata"]
    with pytest.raises(AirflowException, match="attempt 1 was overtaken; not changed"):
        first.pod()
    second.operator.on_kill()
    wait_for(lambda: made.metadata.name not in cluster.pods(), 180, "removal by its owner")
