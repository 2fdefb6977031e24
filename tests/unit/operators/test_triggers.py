"""What a trigger keeps while it is written down in Airflow's database."""

from contract.schema.cluster import ClusterConfig, JobConfig, KubernetesConfig, PodConfig
from launching.job_spec import JobSpec
from operators.triggers import JobTrigger


def test_a_job_survives_being_written_down() -> None:
    job = JobSpec(
        name="digits-train",
        step="train",
        command=("python", "-m", "components.train"),
        replicas={"chief": 1, "worker": 2},
        replaceable=frozenset({"worker"}),
        settings=JobConfig(command=("torchrun", "main.py")),
    )
    kubernetes = KubernetesConfig(
        clusters={"train": ClusterConfig()}, default_cluster="train", pod=PodConfig(image="own:1")
    )
    arguments = {"job": job.model_dump(mode="json"), "deadline": 0.0, "attempt": 1}
    arguments["kubernetes"] = kubernetes.model_dump(mode="json", exclude_unset=True)
    again = JobTrigger(**JobTrigger(**arguments).serialize()[1])
    assert (again.job, again.kubernetes) == (job, kubernetes)
