"""Kubernetes objects, compared with what was written by hand."""

import json
from typing import Any

from contract.pod_storage import FolderAccess, mounts
from contract.pod_templates import merged
from contract.pods import Inside, owned, pod
from contract.schema.cluster import (
    ClusterConfig,
    JobConfig,
    KubernetesConfig,
    PodConfig,
    TolerationConfig,
    VolumeConfig,
)
from launching.cluster.manifests import headless_service, label_value, replica_pod, task_labels
from launching.job_spec import JobSpec, Replica

JOB = JobSpec(
    name="digits-train-1-g0",
    step="train",
    command=("python", "-m", "components.train"),
    replicas={"chief": 1, "worker": 2},
    settings=JobConfig(grace_seconds=7),
)

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def kubernetes(**changes: Any) -> KubernetesConfig:
    given = {
        "clusters": {"one": ClusterConfig(context="one")},
        "default_cluster": "one",
        "pod": PodConfig(image="slipway:1", cpu="1", memory="2Gi"),
    }
    return KubernetesConfig(**{**given, **changes})


def test_a_plain_pod_is_what_it_says() -> None:
    volumes = (
        VolumeConfig(name="storage", mount_path="/slipway", claim="storage"),
        VolumeConfig(name="data", mount_path="/data", host_path="/mnt/data", is_read_only=True),
    )
    config = PodConfig(image="slipway:1", cpu="1", memory="2Gi", environment={"A": "1"})
    assert pod(config, volumes, Inside("name", ("run", "it"), {"x": "y"})) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "name",
            "labels": {"app.kubernetes.io/managed-by": "slipway", "x": "y"},
        },
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": "slipway:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["run", "it"],
                    "env": [{"name": "A", "value": "1"}],
                    "resources": {
                        "requests": {"cpu": "1", "memory": "2Gi"},
                        "limits": {"memory": "2Gi"},
                    },
                    "volumeMounts": [
                        {"name": "storage", "mountPath": "/slipway"},
                        {"name": "data", "mountPath": "/data", "readOnly": True},
                    ],
                    "securityContext": RESTRICTED,
                }
            ],
            "volumes": [
                {"name": "storage", "persistentVolumeClaim": {"claimName": "storage"}},
                {"name": "data", "hostPath": {"path": "/mnt/data"}},
            ],
        },
    }


def test_what_the_runtime_file_asks_for_is_asked_of_the_cluster() -> None:
    config = PodConfig(
        image="slipway:1",
        gpus=2,
        gpu_resource="nvidia.com/mig-1g.10gb",
        cpu_limit="4",
        memory_limit="8Gi",
        node_selector={"pool": "gpu"},
        tolerations=(TolerationConfig(key="gpu", effect="NoSchedule"),),
        priority_class="high",
        queue="team-a",
        image_pull_secrets=("registry",),
        service_account="trainer",
    )
    made = pod(config, (), Inside("name", ("run",)))
    spec = made["spec"]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert spec["containers"][0]["resources"]["limits"] == {
        "memory": "8Gi",
        "cpu": "4",
        "nvidia.com/mig-1g.10gb": "2",
    }
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["priorityClassName"] == "high"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["serviceAccountName"] == "trainer"


def test_a_template_is_merged_in_under_ours_by_the_names_of_things() -> None:
    template = {
        "metadata": {"annotations": {"a": "b"}},
        "spec": {
            "restartPolicy": "Always",
            "containers": [
                {"workingDir": "/work", "env": [{"name": "A", "value": "0"}]},
                {"name": "beside", "image": "other:1"},
            ],
        },
    }
    config = PodConfig(image="slipway:1", environment={"A": "1", "B": "2"}, template=template)
    made = pod(config, (), Inside("name", ("run",)))
    main, beside = made["spec"]["containers"]
    assert made["metadata"]["annotations"] == {"a": "b"}
    assert made["spec"]["restartPolicy"] == "Never"
    assert (main["name"], main["workingDir"]) == ("main", "/work")
    assert main["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert beside == {"name": "beside", "image": "other:1", "securityContext": RESTRICTED}


def test_a_template_may_ask_for_more_than_the_profile_restricted_gives() -> None:
    context = {"capabilities": {"add": ["SYS_CHROOT"]}, "allowPrivilegeEscalation": True}
    spec = {"securityContext": {"runAsNonRoot": False, "fsGroup": 7}}
    template = {"spec": {**spec, "containers": [{"securityContext": context}]}}
    made = pod(PodConfig(image="slipway:1", template=template), (), Inside("name", ("run",)))
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    assert made["spec"]["securityContext"] == {"runAsNonRoot": False, "fsGroup": 7, **seccomp}
    assert made["spec"]["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_CHROOT"]},
    }


def test_folders_are_mounted_in_the_volume_that_they_lie_in() -> None:
    volumes = (
        VolumeConfig(name="all", mount_path="/slipway", claim="all"),
        VolumeConfig(name="fast", mount_path="/slipway/fast", claim="fast"),
        VolumeConfig(name="data", mount_path="/data", claim="data", is_read_only=True),
    )
    paths = ("/slipway/a/b", "/slipway/fast", "/slipway/fast/c", "/data/d", "/elsewhere")
    access = tuple(FolderAccess(path=path) for path in paths)
    read_only = {"readOnly": True}
    assert mounts(volumes, access, is_narrow=False) == [
        {"name": "all", "mountPath": "/slipway", **read_only},
        {"name": "all", "mountPath": "/slipway/a/b", "subPath": "a/b"},
        {"name": "fast", "mountPath": "/slipway/fast"},
        {"name": "fast", "mountPath": "/slipway/fast/c", "subPath": "c"},
        {"name": "data", "mountPath": "/data", **read_only},
        {"name": "data", "mountPath": "/data/d", **read_only, "subPath": "d"},
    ]
    narrow = [mount["mountPath"] for mount in mounts(volumes, access[:1], is_narrow=True)]
    assert narrow == ["/slipway/a/b", "/slipway/fast", "/data"]
    assert mounts(volumes[:1], (), is_narrow=False) == [{"name": "all", "mountPath": "/slipway"}]


def test_merging_joins_named_lists_and_strings_others_together() -> None:
    under = {"a": [1], "b": [{"name": "x", "k": 1}], "c": {"d": 1}}
    over = {"a": [2], "b": [{"name": "x", "l": 2}, {"name": "y"}], "c": {"e": 2}}
    assert merged(under, over) == {
        "a": [1, 2],
        "b": [{"name": "x", "k": 1, "l": 2}, {"name": "y"}],
        "c": {"d": 1, "e": 2},
    }


def test_a_replicas_pod_has_its_round_in_its_name_and_its_place_in_its_host_name() -> None:
    roles = {"worker": PodConfig(gpus=1)}
    made = replica_pod(JOB, kubernetes(roles=roles), Replica("worker", 1), 3, "team")
    assert made["metadata"]["name"] == "digits-train-1-g0-worker-1-3"
    spec = made["spec"]
    assert (spec["hostname"], spec["subdomain"]) == ("worker-1", "digits-train-1-g0")
    assert spec["terminationGracePeriodSeconds"] == 7
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (told,) = [e for e in spec["containers"][0]["env"] if e["name"] == "TF_CONFIG"]
    base = "digits-train-1-g0.team.svc:2222"
    assert json.loads(told["value"])["cluster"] == {
        "chief": [f"chief-0.{base}"],
        "worker": [f"worker-0.{base}", f"worker-1.{base}"],
    }
    chief = replica_pod(JOB, kubernetes(roles=roles), Replica("chief", 0), 0, "team")
    assert "nvidia.com/gpu" not in chief["spec"]["containers"][0]["resources"]["limits"]


def test_a_job_of_one_needs_no_tf_config() -> None:
    alone = JOB.model_copy(update={"replicas": {"chief": 1}})
    made = replica_pod(alone, kubernetes(), Replica("chief", 0), 0, "team")
    assert made["spec"]["containers"][0]["env"] == []


def test_the_jobs_service_finds_pods_that_are_not_ready_and_owns_them() -> None:
    service = headless_service(JOB)
    assert service["spec"] == {
        "clusterIP": "None",
        "selector": {"slipway/job": "digits-train-1-g0"},
        "publishNotReadyAddresses": True,
        "ports": [{"name": "grpc", "port": 2222}],
    }
    created = {**service, "metadata": {**service["metadata"], "uid": "u-1"}}
    (reference,) = owned({"metadata": {"name": "p"}}, created)["metadata"]["ownerReferences"]
    assert reference == {
        "apiVersion": "v1",
        "kind": "Service",
        "name": "digits-train-1-g0",
        "uid": "u-1",
        "controller": True,
    }


def test_labels_carry_the_task_and_are_valid_whatever_the_names() -> None:
    labels = task_labels("digits", "manual__2026-01-01T00:00:00+00:00", "train")
    assert (labels["dag_id"], labels["task_id"]) == ("digits", "train")
    assert labels["run_id"].startswith("manual__2026-01-01T00-00-00-00-00-")
    for text in ("", "a" * 300, "-.-", "ü", "x" * 62 + "-y"):
        value = label_value(text)
        assert len(value) <= 63
        assert value == "" or (value[0].isalnum() and value[-1].isalnum())
    assert label_value("a+b") != label_value("a-b") != label_value("a*b")


def test_a_role_may_have_nodes_of_its_own() -> None:
    one = JOB.model_copy(update={"replicas": {"chief": 1, "worker": 1, "ps": 1}})
    given = kubernetes(roles={"ps": PodConfig(node_selector={"pool": "parameter-servers"})})
    selectors = {
        str(replica): replica_pod(one, given, replica, 0, "team")["spec"].get("nodeSelector")
        for replica in one.members()
    }
    own = {"pool": "parameter-servers"}
    assert selectors == {"chief-0": None, "worker-0": None, "ps-0": own}
