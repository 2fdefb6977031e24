"""The runtime file of a cluster: what is merged, and what is refused."""

from typing import Any

import pytest
import yaml

from contract.errors import ConfigError
from contract.loader import load_runtime, validate
from contract.schema.cluster import JobConfig, KubernetesConfig, PodConfig
from contract.schema.runtime import RuntimeConfig


def runtime(**changes: Any) -> RuntimeConfig:
    kubernetes = {
        "clusters": {"one": {"context": "one"}, "two": {"context": "two"}},
        "default_cluster": "one",
        "pod": {"image": "slipway:1"},
    }
    raw = {"kind": "kubernetes", "root": "/slipway", "kubernetes": kubernetes | changes}
    return validate(RuntimeConfig, raw, "kubernetes.yaml")


def kubernetes(**changes: Any) -> KubernetesConfig:
    found = runtime(**changes).kubernetes
    assert found is not None
    return found


def test_the_shipped_runtime_file_is_valid_and_separates_evaluation_from_training() -> None:
    shipped = load_runtime("kubernetes").kubernetes
    assert shipped is not None
    assert shipped.cluster("evaluate") != shipped.cluster("train")


def test_a_runtime_file_may_lie_anywhere(tmp_path: Any) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"kind": "local", "max_parallel_components": 5}))
    assert load_runtime(str(path)).max_parallel_components == 5


def test_a_step_runs_on_its_cluster_or_on_the_default() -> None:
    config = kubernetes(cluster_of={"evaluate": "two"})
    assert config.cluster("evaluate").context == "two"
    assert config.cluster("train").context == "one"


def test_the_last_of_pod_step_and_role_that_says_a_key_wins() -> None:
    config = kubernetes(
        pod={"image": "slipway:1", "cpu": "1", "environment": {"A": "1", "B": "1"}},
        steps={"train": {"cpu": "2", "environment": {"B": "2"}}},
        roles={"ps": {"cpu": "4", "gpus": 0}},
    )
    assert config.pod_of("ingest").cpu == "1"
    assert config.pod_of("train", "worker").cpu == "2"
    ps = config.pod_of("train", "ps")
    assert (ps.cpu, ps.image, ps.environment) == ("4", "slipway:1", {"A": "1", "B": "2"})


def test_what_was_not_said_stays_unsaid_when_it_is_written_down_and_read_again() -> None:
    config = kubernetes(roles={"chief": {"gpus": 1}})
    again = KubernetesConfig.model_validate_json(config.model_dump_json(exclude_unset=True))
    assert again.pod_of("train", "chief") == config.pod_of("train", "chief")
    assert again.pod_of("train", "chief").image == "slipway:1"


def test_a_default_that_is_said_wins_over_what_was_said_before() -> None:
    assert PodConfig(gpus=2).merged(PodConfig(gpus=0)).gpus == 0
    assert PodConfig(gpus=2).merged(PodConfig(cpu="1"), None).gpus == 2
    secrets = PodConfig(environment_secrets=("a",))
    assert secrets.merged(PodConfig(environment_secrets=())).environment_secrets == ()


def test_a_steps_template_is_merged_over_that_of_all_pods() -> None:
    under = PodConfig(template=_template("tmp", "/tmp"))
    spec = under.merged(PodConfig(template=_template("agent", "/agent"))).template["spec"]
    (container,) = spec["containers"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp", "/agent"]
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp", "agent"]
    assert spec["priority"] == 1


def _template(name: str, path: str) -> dict[str, Any]:
    container = {"volumeMounts": [{"name": name, "mountPath": path}]}
    volumes = [{"name": name, "emptyDir": {}}]
    return {"spec": {"priority": 1, "containers": [container], "volumes": volumes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"default_cluster": "three"}, "default_cluster: 'three' is not a key of clusters"),
        (
            {"cluster_of": {"train": "x"}},
            "cluster_of.train: 'x' is not a key of clusters (one, two)",
        ),
        ({"pod": {}}, "pod.image: missing"),
        ({"pod": {"image": "i", "memory": "lots"}}, "kubernetes.pod.memory: String should match"),
        ({"pod": {"image": "i", "gpu": 1}}, "kubernetes.pod.gpu: unknown key; did you mean 'gpus'"),
        (
            {"volumes": [{"name": "a", "mount_path": "/a"}]},
            "volume 'a': give either claim or host_path",
        ),
        (
            {"volumes": [{"name": "a", "mount_path": "/a", "claim": "a"}] * 2},
            "volumes: names repeat",
        ),
        ({"job": {"kind": "job"}}, "kubernetes.job.kind"),
    ],
)
def test_a_wrong_runtime_file_is_refused_with_its_key(changes: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        runtime(**changes)
    assert message in str(refusal.value)


@pytest.mark.parametrize("root", ["", "s3://bucket/models"])
def test_a_root_that_pods_cannot_share_is_refused(root: str) -> None:
    raw = {"kind": "kubernetes", "root": root, "kubernetes": kubernetes().model_dump(mode="json")}
    with pytest.raises(ConfigError, match="expected an absolute path on a shared volume"):
        validate(RuntimeConfig, raw, "kubernetes.yaml")


def test_a_local_runtime_has_a_job_section_and_pods_have_their_own() -> None:
    local = validate(RuntimeConfig, {"job": {"grace_seconds": 40}}, "local.yaml")
    assert local.job.grace_seconds == 40
    assert RuntimeConfig().job.grace_seconds == JobConfig().grace_seconds
    raw = {"kind": "kubernetes", "root": "/a", "kubernetes": kubernetes().model_dump(mode="json")}
    with pytest.raises(ConfigError, match="belongs to kind 'local'; expected kubernetes.job"):
        validate(RuntimeConfig, raw | {"job": {"grace_seconds": 40}}, "kubernetes.yaml")


def test_the_section_and_the_kind_belong_together() -> None:
    with pytest.raises(ConfigError, match="belongs to kind 'kubernetes', and only there"):
        validate(RuntimeConfig, {"kind": "kubernetes", "root": "/a"}, "kubernetes.yaml")


def test_a_local_root_may_be_in_an_object_store_but_names_no_credentials() -> None:
    assert validate(RuntimeConfig, {"root": "s3://bucket/models"}, "local.yaml").root
    with pytest.raises(ConfigError, match="s3://bucket/models: the URL holds creden") as refusal:
        validate(RuntimeConfig, {"root": "s3://me:hidden@bucket/models"}, "local.yaml")
    assert "hidden" not in str(refusal.value)
