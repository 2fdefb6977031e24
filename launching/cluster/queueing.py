"""What a queue (Kueue) needs to see of a job, and what of a pod shows that it holds it back.

Kueue admits the pods of a group together: it gates each until quota for all of them is free. A job
object of Kubeflow it suspends. Neither time is a pod's own slowness, so no clock of ours counts it.

It keeps pods that failed or were deleted until the group ends: when all have ended well, or when
all have ended and one says that it is not retried (`kueue.x-k8s.io/retriable-in-group`).

A group that was killed before it was admitted, or whose pods are replaced alone, does not end so:
Kueue keeps its pods and their quota until its Workload, which has the group's name, is deleted.

Source: https://kueue.sigs.k8s.io/docs/tasks/run/plain_pods and .../run/kubeflow/tfjobs.
"""

import logging

from contract.clients.cluster import Cluster
from contract.clients.cluster_errors import ForbiddenError
from contract.errors import ConfigError
from contract.pod_templates import Manifest
from contract.pods import QUEUE
from contract.schema.cluster import KubernetesConfig
from launching.job_spec import JobSpec, Replica

GROUP, GROUP_COUNT = "kueue.x-k8s.io/pod-group-name", "kueue.x-k8s.io/pod-group-total-count"
WORKLOADS = "kueue.x-k8s.io/v1beta1/workloads"
RETRIED = "kueue.x-k8s.io/retriable-in-group"


log = logging.getLogger(__name__)


def queue_of(job: JobSpec, kubernetes: KubernetesConfig) -> str:
    """Return the one queue of a job's pods; empty without.

    Raises:
        ConfigError: If its roles have different ones: a group is admitted by one queue.
    """
    found = {role: kubernetes.pod_of(job.step, role).queue for role in job.replicas}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{role}: '{queue}'" for role, queue in found.items())
        raise ConfigError([f"queue: the pods of one job need one queue, found {said}"])
    return next(iter(found.values()))


def in_group(pod: Manifest, job: JobSpec, replica: Replica, round_: int) -> Manifest:
    """Return a job's pod as a member of its group, if it has a queue and is not alone.

    Args:
        round_: How often the whole job was started again. A pod that is replaced alone stays in
            the group; after that, all are a new one.
    """
    metadata = pod["metadata"]
    if QUEUE not in metadata["labels"] or job.is_alone:
        return pod
    labels = {**metadata["labels"], GROUP: group_of(job, round_)}
    annotations = {GROUP_COUNT: str(sum(job.replicas.values()))}
    if replica.role not in job.replaceable:  # when it has ended, so has the group
        annotations[RETRIED] = "false"
    annotations = {**metadata.get("annotations", {}), **annotations}
    return {**pod, "metadata": {**metadata, "labels": labels, "annotations": annotations}}


def group_of(job: JobSpec, round_: int) -> str:
    """Return the name of a job's pod group, which its Workload has, too."""
    return f"{job.name}-{round_}"


async def remove_workload(cluster: Cluster, group: str) -> None:
    """Delete the Workload of a pod group that has no more pods to run, so that Kueue forgets it."""
    try:
        await cluster.delete(WORKLOADS, group)
    except ForbiddenError as error:
        command = f"kubectl -n {cluster.namespace} delete workload {group}"
        log.warning("Kueue may keep the pods of a group; '%s' ends it: %s", command, error)


def is_admitted(pod: Manifest) -> bool:
    """Tell whether no gate keeps the scheduler from looking at a pod."""
    return not pod.get("spec", {}).get("schedulingGates")


def gate_in_words(pod: Manifest) -> str:
    """Say what a gated pod waits for."""
    queue = pod["metadata"].get("labels", {}).get(QUEUE)
    if queue:
        return f"admission by queue '{queue}'"
    gates = ", ".join(gate["name"] for gate in pod["spec"]["schedulingGates"])
    return f"its scheduling gates: {gates}"


def is_suspended(body: Manifest) -> bool:
    """Tell whether a job object is suspended, as by its queue."""
    return bool(body.get("spec", {}).get("runPolicy", {}).get("suspend"))
