"""A short pod that reads what pods before it wrote below the artifact root, and writes a file."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import PurePath

from contract.clients.cluster import Cluster, Manifest
from contract.clients.cluster_errors import ForbiddenError, QuotaError
from contract.pod_templates import CONTAINER
from contract.pods import Inside, pod
from contract.schema.cluster import KubernetesConfig, PodConfig
from launching.cluster.pod_status import (
    ended,
    has_node,
    has_started,
    image,
    is_hopeless,
    is_not_created,
    is_unschedulable,
    waits_for,
)

_START_SECONDS = 60.0
_BIND_SECONDS = 20.0  # a claim that was just made is bound after some seconds
_RUN_SECONDS = 60.0
_SEEN_SECONDS = 20.0  # NFS keeps for some seconds that a name is not there
_LOOK_SECONDS = 0.5
_NO_VOLUME = "persistentvolumeclaim"  # in the scheduler's message, in whatever case
_MOUNTS = frozenset({"FailedMount", "FailedAttachVolume"})
# What ends the pod is its termination message. A file written elsewhere may be seen late. The
# folder is made in the nearest parent that is there: the root may come with the first run.
_PROGRAM = """
import os, shutil, sys, time
place, name, number, word, seconds = sys.argv[1:]
while not os.path.isdir(place):
    place = os.path.dirname(place)
folder = os.path.join(place, name)
try:
    if word == "clean":
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit()
    os.makedirs(folder, exist_ok=True)
    missing, until = [str(n) for n in range(int(number))], time.monotonic() + float(seconds)
    while missing and time.monotonic() < until:
        missing = [one for one in missing if one not in os.listdir(folder)]
        time.sleep(0.2 if missing else 0)
    if not missing:
        with open(os.path.join(folder, number), "w") as file:
            file.write("slipway check")
    if missing or word == "last":
        shutil.rmtree(folder, ignore_errors=True)
    if missing:
        sys.exit("what a pod wrote before is not there: pods do not share one volume")
except OSError as error:
    about = os.stat(folder if os.path.isdir(folder) else place)
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(
        f"{error} (as user {os.getuid()}, group {os.getgid()}; the folder is of "
        f"{about.st_uid}:{about.st_gid}, mode {about.st_mode & 0o7777:o})"
    )
"""


@dataclass(frozen=True)
class Visit:
    """One pod's turn.

    Attributes:
        step: Whose image, user and node it has.
        folder: What it reads and writes: a folder of the artifact root.
        number: How many were before it, each of which left a file of its number.
        word: `more` or `last`, which removes the folder; `clean` only does that.
    """

    cluster: str
    step: str
    folder: PurePath
    number: int
    word: str


async def visited(cluster: Cluster, kubernetes: KubernetesConfig, visit: Visit) -> tuple[str, str]:
    """Run the pod and remove it; return a problem, or what kept it from being tried."""
    place = f"storage: pod in '{visit.cluster}'"
    body = visiting_pod(kubernetes, visit)
    try:
        found = await _ended_or_late(cluster, await cluster.create("pods", body))
        if (how := ended(found)) is not None:
            return ("" if how[0] == 0 else f"{place}: {_last_words(found) or how[1]}"), ""
        return await _why_not(cluster, found, place)
    except QuotaError as error:
        return "", f"{place}: not tried: {error}"
    finally:  # also if the API server's answer was lost
        await cluster.delete("pods", body["metadata"]["name"], {"gracePeriodSeconds": 0})


def visiting_pod(kubernetes: KubernetesConfig, visit: Visit) -> Manifest:
    """Return the pod: as the step's, with its volumes as the runtime file has them, but small.

    It needs none of the step's secrets.
    """
    small = PodConfig(cpu="100m", memory="128Mi", gpus=0, queue="", environment_secrets=())
    config = kubernetes.pod_of(visit.step).merged(small)
    root, folder = str(visit.folder.parent), visit.folder.name
    words = (root, folder, str(visit.number), visit.word, str(_SEEN_SECONDS))
    command = (config.python, "-c", _PROGRAM, *words)
    name = f"{folder.strip('.')}-{visit.number}-{visit.word}"
    made = pod(config, kubernetes.volumes, Inside(name, command))
    for container in made["spec"]["containers"]:
        if container["name"] == CONTAINER:
            container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    made["spec"]["activeDeadlineSeconds"] = int(_START_SECONDS + _RUN_SECONDS)
    return made


async def _ended_or_late(cluster: Cluster, made: Manifest) -> Manifest:
    """Return the pod as it is when it has ended, can never start, or is late."""
    began, has_run = time.monotonic(), False
    until = began + _START_SECONDS
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        found = await cluster.get("pods", made["metadata"]["name"])
        if has_started(found) and not has_run:
            has_run, until = True, time.monotonic() + _RUN_SECONDS
        is_unbound = is_unschedulable(found) and _NO_VOLUME in waits_for(found).lower()
        is_unbound = is_unbound and time.monotonic() > began + _BIND_SECONDS
        is_over = ended(found) is not None or is_hopeless(found) or is_unbound
        if is_over or time.monotonic() > until:
            return found


async def _why_not(cluster: Cluster, found: Manifest, place: str) -> tuple[str, str]:
    """Return a problem if it is the volume that keeps the pod from starting, else what does."""
    if has_started(found):
        return f"{place}: the volume does not answer: not done within {_RUN_SECONDS:g} s", ""
    waits = waits_for(found)
    if is_hopeless(found) or is_not_created(found):
        return f"{place}: image {image(found)}: {waits}", ""
    if not has_node(found):
        is_volume = _NO_VOLUME in waits.lower()
        return (f"{place}: {waits}", "") if is_volume else ("", f"{place}: not tried: {waits}")
    if mounting := await _failed_mount(cluster, found):
        return f"{place}: {mounting}", ""
    return "", f"{place}: not tried: it waits for {waits}"


async def _failed_mount(cluster: Cluster, found: Manifest) -> str:
    fields = {"involvedObject.uid": found["metadata"]["uid"]}
    with contextlib.suppress(ForbiddenError):
        for event in (await cluster.list("events", {}, fields))["items"]:
            if event.get("reason") in _MOUNTS:
                return f"{event['reason']}: {event.get('message', '')}"
    return ""


def _last_words(found: Manifest) -> str:
    for status in found.get("status", {}).get("containerStatuses") or ():
        terminated = status.get("state", {}).get("terminated") or {}
        if status["name"] == CONTAINER:
            return str(terminated.get("message", "")).strip()
    return ""
