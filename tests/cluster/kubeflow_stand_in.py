"""Tests only: plays Kubeflow's operator for TFJob and MPIJob, which is not to be had here.

It makes the pods, Services, TF_CONFIG, host file and status conditions that the real training
operator (v1) and mpi-operator (v2beta1) make, as far as a job needs them to train: no gang
scheduling, no back-off, no success policies but the chief's. For MPI the real one gives each pod
ssh keys; here the launcher reaches the workers through a shell script on the shared storage, for
the machine's image has no sshd.
"""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clusters import PYTHON, TestCluster

PLURALS = {"TFJob": "tfjobs.v1.kubeflow.org", "MPIJob": "mpijobs.v2beta1.kubeflow.org"}
GROUP = "training.kubeflow.org"
PORT = 2222
_LOOK_SECONDS = 1.0

# The worker runs what it finds in its folder; the launcher's mpirun leaves there what to run.
WORKER = """
import os, subprocess, sys, time
box = sys.argv[1] + '/' + os.environ['HOSTNAME']
os.makedirs(box, exist_ok=True)
while True:
    for name in sorted(n for n in os.listdir(box) if n.endswith('.sh')):
        os.rename(f'{box}/{name}', f'{box}/{name}.taken')
        with open(f'{box}/{name}.out', 'wb') as out:
            code = subprocess.call(['/bin/sh', f'{box}/{name}.taken'], stdout=out, stderr=out)
        with open(f'{box}/{name}.code.new', 'w') as file:
            file.write(str(code))
        os.rename(f'{box}/{name}.code.new', f'{box}/{name}.code')
    time.sleep(0.05)
"""
AGENT = """#!/usr/bin/env python3
import os, sys, time, uuid
host, command = sys.argv[1], ' '.join(sys.argv[2:])
box = '{boxes}/' + host.split('.')[0]
name = uuid.uuid4().hex + '.sh'
with open(f'{{box}}/{{name}}.new', 'w') as file:
    file.write(command)
os.rename(f'{{box}}/{{name}}.new', f'{{box}}/{{name}}')
while not os.path.exists(f'{{box}}/{{name}}.code'):
    time.sleep(0.05)
sys.stdout.write(open(f'{{box}}/{{name}}.out').read())
sys.exit(int(open(f'{{box}}/{{name}}.code').read()))
"""


class KubeflowStandIn:
    """Looks after all jobs of one kind in one namespace, in a thread, until stopped."""

    def __init__(self, cluster: TestCluster, kind: str, shared: Path) -> None:
        self.cluster, self.kind, self.shared = cluster, kind, shared
        self.is_stopping = threading.Event()
        self.errors: list[str] = []
        self._restarts: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "KubeflowStandIn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopping.set()
        self._thread.join(20)
        assert not self.errors, self.errors

    def _run(self) -> None:
        while not self.is_stopping.wait(_LOOK_SECONDS):
            for job in self.cluster.get(PLURALS[self.kind]):
                try:
                    self._reconcile(job)
                except RuntimeError as error:  # a job that is deleted while it is looked at
                    if "not found" not in str(error) and "NotFound" not in str(error):
                        self.errors.append(str(error))

    def _reconcile(self, job: dict[str, Any]) -> None:
        conditions = job.get("status", {}).get("conditions", [])
        if job["metadata"].get("deletionTimestamp") or _is_over(conditions):
            return
        pods = self.cluster.pods(f"{GROUP}/job-name={job['metadata']['name']}")
        if not conditions:
            self._set(job, "Created", f"{self.kind} is created.")
        for body in self._wanted(job):
            if body["kind"] != "Pod" or body["metadata"]["name"] not in pods:
                self.cluster.apply(body)
        self._report(job, pods)

    def _report(self, job: dict[str, Any], pods: dict[str, Any]) -> None:
        first = "launcher" if self.kind == "MPIJob" else "chief"
        chiefs = [
            p for p in pods.values() if p["metadata"]["labels"][f"{GROUP}/replica-type"] == first
        ]
        phases = {p["metadata"]["name"]: p["status"].get("phase") for p in pods.values()}
        if any(p["status"].get("phase") == "Succeeded" for p in chiefs):
            self._set(job, "Succeeded", f"{self.kind} is successfully completed.")
        elif failed := [name for name, phase in phases.items() if phase == "Failed"]:
            limit = job["spec"]["runPolicy"].get("backoffLimit", 0)
            count = self._restarts.get(job["metadata"]["name"], 0)
            if count >= limit:
                self._set(job, "Failed", f"{failed[0]} has failed; back-off limit reached")
                return
            self._restarts[job["metadata"]["name"]] = count + 1
            self._set(job, "Restarting", f"{failed[0]} has failed and is restarted")
            self.cluster.kubectl(
                "delete", "pod", *phases, "--wait=true", "--grace-period=0", "--force"
            )
        elif phases and all(phase == "Running" for phase in phases.values()):
            self._set(job, "Running", f"{self.kind} is running.")

    def _set(self, job: dict[str, Any], kind: str, message: str) -> None:
        conditions = job.setdefault("status", {}).setdefault("conditions", [])
        if conditions and conditions[-1]["type"] == kind and conditions[-1]["status"] == "True":
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for condition in conditions:
            if condition["type"] in ("Running", "Restarting", kind):
                condition["status"] = "False"
        conditions[:] = [c for c in conditions if c["type"] != kind]
        conditions.append(
            {
                "type": kind,
                "status": "True",
                "reason": f"{self.kind}{kind}",
                "message": message,
                "lastTransitionTime": now,
                "lastUpdateTime": now,
            }
        )
        name, path = job["metadata"]["name"], PLURALS[self.kind]
        plural, version, *group = path.split(".")
        base = f"/apis/{'.'.join(group)}/{version}/namespaces/{self.cluster.namespace}"
        url = f"{base}/{plural}/{name}/status"
        current = json.loads(self.cluster.kubectl("get", path, name, "-o", "json"))
        current["status"] = job["status"]
        self.cluster.kubectl("replace", "--raw", url, "-f", "-", text=json.dumps(current))

    # --- what the real operators make ---

    def _wanted(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        return self._mpi(job) if self.kind == "MPIJob" else self._tensorflow(job)

    def _tensorflow(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        replicas = job["spec"]["tfReplicaSpecs"]
        name, space = job["metadata"]["name"], self.cluster.namespace
        cluster = {
            kind.lower(): [
                f"{name}-{kind.lower()}-{i}.{space}.svc:{PORT}" for i in range(spec["replicas"])
            ]
            for kind, spec in replicas.items()
        }
        made = []
        for kind, spec in replicas.items():
            for index in range(spec["replicas"]):
                task = {"type": kind.lower(), "index": index}
                config = {"cluster": cluster, "task": task, "environment": "cloud"}
                pod = _pod(job, spec, kind.lower(), index)
                for container in pod["spec"]["containers"]:
                    if container["name"] == "tensorflow":
                        variable = {"name": "TF_CONFIG", "value": json.dumps(config)}
                        container["env"] = [*container.get("env", ()), variable]
                made += [_service(job, pod["metadata"]["name"], pod["metadata"]["labels"]), pod]
        return made

    def _mpi(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        replicas, name = job["spec"]["mpiReplicaSpecs"], job["metadata"]["name"]
        boxes = self.shared / f"mpi-{name}"
        if not boxes.is_dir():
            boxes.mkdir(mode=0o777)
            (boxes / "agent").write_text(AGENT.format(boxes=boxes))
            (boxes / "agent").chmod(0o755)
        made, hosts = [], []
        for index in range(replicas["Worker"]["replicas"]):
            pod = _pod(job, replicas["Worker"], "worker", index)
            main = pod["spec"]["containers"][0]
            assert main["command"] == ["/usr/sbin/sshd", "-De"]
            main["command"] = [PYTHON, "-c", WORKER, str(boxes)]
            pod["spec"] |= {"hostname": pod["metadata"]["name"], "subdomain": name}
            hosts.append(f"{pod['metadata']['name']}.{name}.{self.cluster.namespace}.svc slots=1")
            made.append(pod)
        (boxes / "hostfile").write_text("\n".join(hosts) + "\n")
        launcher = _pod(job, replicas["Launcher"], "launcher", 0)
        launcher["metadata"]["name"] = f"{name}-launcher"
        launcher["spec"] |= {"hostname": f"{name}-launcher", "subdomain": name}
        main = launcher["spec"]["containers"][0]
        variables = {
            "OMPI_MCA_orte_default_hostfile": str(boxes / "hostfile"),
            "OMPI_MCA_plm_rsh_agent": str(boxes / "agent"),
            "OMPI_MCA_orte_keep_fqdn_hostnames": "true",
        }
        main["env"] = [
            *main.get("env", ()),
            *({"name": n, "value": v} for n, v in variables.items()),
        ]
        labels = {f"{GROUP}/job-name": name}
        made.insert(0, _service(job, name, labels))
        ready = all((boxes / f"{name}-worker-{i}").is_dir() for i in range(len(hosts)))
        return [*made, launcher] if ready else made


def _is_over(conditions: list[dict[str, Any]]) -> bool:
    return any(c["type"] in ("Succeeded", "Failed") and c["status"] == "True" for c in conditions)


def _pod(job: dict[str, Any], spec: dict[str, Any], kind: str, index: int) -> dict[str, Any]:
    name, template = job["metadata"]["name"], spec["template"]
    labels = {
        **template["metadata"].get("labels", {}),
        f"{GROUP}/job-name": name,
        f"{GROUP}/replica-type": kind,
        f"{GROUP}/replica-index": str(index),
    }
    body = {**template["spec"], "restartPolicy": "Never"}
    body["containers"] = [dict(container) for container in body["containers"]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{kind}-{index}",
            "labels": labels,
            "ownerReferences": [_owner(job)],
        },
        "spec": body,
    }


def _service(job: dict[str, Any], name: str, labels: dict[str, str]) -> dict[str, Any]:
    selector = {key: value for key, value in labels.items() if key.startswith(GROUP)}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "ownerReferences": [_owner(job)]},
        "spec": {
            "clusterIP": "None",
            "selector": selector,
            "publishNotReadyAddresses": True,
            "ports": [{"name": "port", "port": PORT}],
        },
    }


def _owner(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
