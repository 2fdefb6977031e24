"""The logs of many pods come through few connections, each line once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from small_cluster import Pod, SmallCluster

from contract.clients.cluster import Cluster
from contract.schema.cluster import JobConfig, KubernetesConfig, PodConfig
from launching.cluster import pod_logs
from launching.cluster.claim import Claim
from launching.cluster.manifests import REPLICA
from launching.cluster.pod_logs import PodLogs
from launching.cluster.pods import SERVICES, PodJob
from launching.job_spec import JobSpec
from launching.restarts import JobEnd

WORKERS = 299
LINES = 3


def name_of(made: Pod) -> str:
    return str(made["metadata"]["labels"][REPLICA])


async def works(cluster: SmallCluster, made: Pod) -> None:
    """Run and log; workers end, and the chief after all of them."""
    cluster.run(made)
    for number in range(LINES):
        cluster.say(made, f"line {number}")
    while name_of(made) == "chief-0" and not workers_are_done(cluster):
        await asyncio.sleep(0.05)
    cluster.end(made)


def workers_are_done(cluster: SmallCluster) -> bool:
    phases = Counter(found["status"]["phase"] for found in cluster.objects("pods"))
    return phases["Succeeded"] == WORKERS


def test_a_job_of_three_hundred_pods_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_logs, "_FINISH_SECONDS", 100.0)  # however busy the machine is
    said: list[str] = []
    with SmallCluster(tmp_path, works) as cluster:
        end = asyncio.run(drive(cluster, said))
        assert end.is_good
        assert cluster.most_logs <= pod_logs._MOST_LIVE + pod_logs._MOST_READERS
        assert cluster.calls["watch pods"] == 1
        assert cluster.calls["watch events"] <= 1
        assert cluster.calls["create pods"] == 1 + WORKERS
        assert not cluster.objects("pods")
    lines = Counter(text for text in said if "] line " in text)
    names = ["chief-0", *(f"worker-{number}" for number in range(WORKERS))]
    assert lines == {f"[{name}] line {n}": 1 for name in names for n in range(LINES)}


async def drive(cluster: SmallCluster, said: list[str]) -> JobEnd:
    job = JobSpec(
        name="job",
        step="train",
        command=("true",),
        replicas={"chief": 1, "worker": WORKERS},
        settings=JobConfig(grace_seconds=0, gang_seconds=600),
    )
    kubernetes = KubernetesConfig(
        clusters={"one": cluster.settings()}, default_cluster="one", pod=PodConfig(image="i:1")
    )
    async with Cluster(cluster.settings()) as api:
        claim = Claim(api, SERVICES, {"slipway/task": "t"}, 0, 1)
        return await PodJob(api, job, kubernetes, claim, lambda _, text: said.append(text)).run()


async def talks(cluster: SmallCluster, made: Pod) -> None:
    cluster.run(made)
    cluster.say(made, "first")


def test_pods_beyond_the_bound_are_read_in_turn_while_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_logs, "_MOST_LIVE", 2)
    monkeypatch.setattr(pod_logs, "_TURN_SECONDS", 0.05)
    names = ["a", "b", "c", "d"]

    async def run(cluster: SmallCluster, said: list[str]) -> None:
        async with Cluster(cluster.settings()) as api:
            logs = PodLogs(api, lambda _, text: said.append(text))
            for name in names:
                body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "main"}]}}
                logs.follow(await api.create("pods", body))
            await until(lambda: {f"[{name}] first" for name in names} <= set(said))
            in_turn = cluster.objects("pods")[3]
            cluster._loop.call_soon_threadsafe(cluster.say, in_turn, "second")
            await until(lambda: "[d] second" in said)
            assert cluster.calls["get log"] > len(names)
            await logs.close()

    said: list[str] = []
    with SmallCluster(tmp_path, talks) as cluster:
        asyncio.run(asyncio.wait_for(run(cluster, said), 60))
    told = "2 pods are followed live: the logs of the others come every 0.05 s"
    assert sorted(said) == sorted([told, *(f"[{name}] first" for name in names), "[d] second"])


def test_a_pod_in_turn_is_followed_live_when_another_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_logs, "_MOST_LIVE", 1)
    monkeypatch.setattr(pod_logs, "_AGAIN_SECONDS", 0.01)
    said: list[str] = []

    async def run(cluster: SmallCluster) -> None:
        async with Cluster(cluster.settings()) as api:
            logs = PodLogs(api, lambda _, text: said.append(text))
            body = {"spec": {"containers": [{"name": "main"}]}}
            first = await api.create("pods", {"metadata": {"name": "first"}, **body})
            second = await api.create("pods", {"metadata": {"name": "second"}, **body})
            logs.follow(first)
            await until(lambda: "[first] first" in said)
            cluster._loop.call_soon_threadsafe(cluster.end, first)
            while not logs._readings["first"].is_complete:
                logs.follow(await api.get("pods", "first"))
                await asyncio.sleep(0.01)
            await until(lambda: not logs._live)
            logs.follow(second)
            assert list(logs._live) == ["second"]
            await until(lambda: "[second] first" in said)
            await logs.close()

    with SmallCluster(tmp_path, talks) as cluster:
        asyncio.run(asyncio.wait_for(run(cluster), 60))


def test_all_jobs_of_a_process_share_a_bound_but_each_follows_one_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_logs, "_MOST_LIVE_OF_ALL", 3)
    monkeypatch.setattr(pod_logs, "_TURN_SECONDS", 0.05)
    said: list[str] = []

    async def run(cluster: SmallCluster) -> None:
        async with Cluster(cluster.settings()) as api:
            jobs = [PodLogs(api, lambda _, text: said.append(text)) for _ in range(3)]
            for number, logs in enumerate(jobs):
                for name in ("a", "b"):
                    body = {"spec": {"containers": [{"name": "main"}]}}
                    metadata = {"metadata": {"name": f"{name}{number}"}}
                    logs.follow(await api.create("pods", metadata | body))
            assert [len(logs._live) for logs in jobs] == [2, 1, 1]
            await until(lambda: sum("] first" in text for text in said) == 6)
            for logs in jobs:
                await logs.close()
            await until(lambda: not pod_logs._live_of_all)

    with SmallCluster(tmp_path, talks) as cluster:
        asyncio.run(asyncio.wait_for(run(cluster), 60))


def test_the_end_of_a_job_reads_what_running_pods_said_since_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_logs, "_MOST_LIVE", 1)
    monkeypatch.setattr(pod_logs, "_TURN_SECONDS", 10_000.0)
    monkeypatch.setattr(pod_logs, "_FINISH_SECONDS", 100.0)
    said: list[str] = []

    async def run(cluster: SmallCluster) -> None:
        async with Cluster(cluster.settings()) as api:
            logs = PodLogs(api, lambda _, text: said.append(text))
            for name in ("live", "other"):
                body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "main"}]}}
                logs.follow(await api.create("pods", body))
            await until(lambda: {"[live] first", "[other] first"} <= set(said))
            other = cluster.objects("pods")[1]
            cluster._loop.call_soon_threadsafe(cluster.say, other, "last")
            await logs.finish()
            await logs.close()

    with SmallCluster(tmp_path, talks) as cluster:
        asyncio.run(asyncio.wait_for(run(cluster), 60))
    assert said.count("[other] last") == 1


@pytest.mark.parametrize(("hours", "later"), [(8, 8), (2, 1), (-5, -5)])
def test_no_line_is_lost_where_nodes_have_their_own_time_zone(
    hours: int, later: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its clock goes back an hour, as in autumn."""
    monkeypatch.setattr(pod_logs, "_MOST_LIVE", 0)  # `live` alone is followed live
    monkeypatch.setattr(pod_logs, "_TURN_SECONDS", 0.02)
    said: list[str] = []

    async def run(cluster: SmallCluster) -> None:
        async with Cluster(cluster.settings()) as api:
            logs = PodLogs(api, lambda _, text: said.append(text))
            for name in ("live", "other"):
                body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "main"}]}}
                logs.follow(await api.create("pods", body))
            other = cluster.objects("pods")[1]
            for text, zone in (("before", hours), ("after", later)):
                there = timezone(timedelta(hours=zone))
                cluster._loop.call_soon_threadsafe(cluster.say, other, text, there)
                await until(lambda t=text: f"[other] {t}" in said)  # type: ignore[misc]
            await logs.close()

    with SmallCluster(tmp_path, runs) as cluster:
        asyncio.run(asyncio.wait_for(run(cluster), 60))
    assert [text for text in said if text.startswith("[")] == ["[other] before", "[other] after"]


def test_what_a_node_says_instead_of_a_log_hides_no_later_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_logs, "_MOST_LIVE", 0)
    monkeypatch.setattr(pod_logs, "_TURN_SECONDS", 0.02)
    notice = "failed to create fsnotify watcher: too many open files"
    said: list[str] = []

    async def run(cluster: SmallCluster) -> None:
        async with Cluster(cluster.settings()) as api:
            logs = PodLogs(api, lambda _, text: said.append(text))
            for name in ("live", "other"):
                body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "main"}]}}
                logs.follow(await api.create("pods", body))
            other = cluster.objects("pods")[1]
            cluster._loop.call_soon_threadsafe(cluster.say, other, notice, None)
            await until(lambda: f"[other] {notice}" in said)
            cluster._loop.call_soon_threadsafe(cluster.say, other, "later")
            await until(lambda: "[other] later" in said)
            await logs.close()

    with SmallCluster(tmp_path, runs) as cluster:
        asyncio.run(asyncio.wait_for(run(cluster), 60))
    assert [t for t in said if t.startswith("[")] == [f"[other] {notice}", "[other] later"]


@pytest.mark.parametrize("most_live", [0, 9])
def test_a_line_of_megabytes_hides_no_other(
    most_live: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A progress bar is one line, however long it goes on."""
    monkeypatch.setattr(pod_logs, "_MOST_LIVE", most_live)
    monkeypatch.setattr(pod_logs, "_TURN_SECONDS", 0.02)
    said: list[str] = []

    async def run(cluster: SmallCluster) -> None:
        async with Cluster(cluster.settings()) as api:
            logs = PodLogs(api, lambda _, text: said.append(text))
            for name in ("live", "other"):
                body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "main"}]}}
                logs.follow(await api.create("pods", body))
            other = cluster.objects("pods")[1]
            for text in ("before", "=" * (5 << 20), "after"):
                cluster._loop.call_soon_threadsafe(cluster.say, other, text)
            await until(lambda: "[other] after" in said)
            await logs.close()

    with SmallCluster(tmp_path, runs) as cluster:
        asyncio.run(asyncio.wait_for(run(cluster), 60))
    lines = [text for text in said if text.startswith("[other]")]
    assert [line[:14] for line in lines] == ["[other] before", "[other] ======", "[other] after"]
    assert 1 << 21 < len(lines[1]) < 1 << 22


async def runs(cluster: SmallCluster, made: Pod) -> None:
    cluster.run(made)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)
