"""The paths of everything below the artifact root. Only this module joins them.

<root>/<pipeline>/
    runs/<run>/pipeline/                 config and user code, frozen by the first step
    runs/<run>/<step>/                   one step's artifacts and its result.json
    runs/<run>/.attempts/<step>/<n>      fencing tokens
    versions/<n>/                        packages, numbered from 1
    labels/deltas/<n>-<digest>.csv       newly labelled rows
    labels/harvest.json                  the part of the log that people were asked about last
    labels/loop.json                     what the last turn of the label loop found
    serving/plan.json                    the desired TrafficPlan
    serving/plan.good.json               its copy
    serving/rollout.json                 the trial in progress, or the last one
    serving/labels.json                  the last verdict of late labels on the version in service
    serving/predictions/<version>/       prediction logs
    schema.json                          the data schema in force
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from contract.errors import NotFoundError
from contract.steps import STEPS

RESULT = "result.json"  # in a step's folder
CHECKPOINT_MANIFEST = "manifest.json"  # in a checkpoint's folder
ENGINE_FILES = "engine.json"  # in the folder of a model for another engine than TensorFlow
TRAINING_ENDED = "ended.json"  # in the folder of `train`
TRAINING_START = "start.json"  # beside it
PACKAGE_MANIFEST = "package.json"  # in the folder of a version: what a server has to know of it


@dataclass(frozen=True)
class PipelineLayout:
    """The folders of one pipeline."""

    root: Path
    pipeline: str

    @property
    def path(self) -> Path:
        return self.root / self.pipeline

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def versions(self) -> Path:
        return self.path / "versions"

    @property
    def label_deltas(self) -> Path:
        return self.path / "labels" / "deltas"

    @property
    def label_harvest(self) -> Path:
        """The part of the prediction log that people were asked about last."""
        return self.path / "labels" / "harvest.json"

    @property
    def label_loop(self) -> Path:
        """What the last turn of the label loop found."""
        return self.path / "labels" / "loop.json"

    def label_loop_lock(self, part: str) -> Path:
        """Locked while a process of a part of the loop lives; holds its process group."""
        return self.path / "labels" / f".{part}.lock"

    @property
    def serving(self) -> Path:
        return self.path / "serving"

    @property
    def traffic_plan(self) -> Path:
        return self.serving / "plan.json"

    @property
    def good_traffic_plan(self) -> Path:
        """A copy of the last plan that was stored, for a plan that is damaged on storage."""
        return self.serving / "plan.good.json"

    def damaged_traffic_plans(self) -> list[Path]:
        """Return plans that were damaged, and in whose place the copy was put; oldest first."""
        return sorted(self.serving.glob("plan.damaged-*.json"))

    @property
    def rollout(self) -> Path:
        """What the controller of the last trial knows of it, written at each look."""
        return self.serving / "rollout.json"

    @property
    def label_verdict(self) -> Path:
        """The last verdict of late labels on the version in service."""
        return self.serving / "labels.json"

    @property
    def data_schema(self) -> Path:
        return self.path / "schema.json"

    @property
    def prediction_logs(self) -> Path:
        """The folder that has a folder of the prediction log for each version."""
        return self.serving / "predictions"

    def predictions(self, version: int) -> Path:
        return self.prediction_logs / str(version)

    def version(self, version: int) -> Path:
        return self.versions / str(version)

    def package_manifest(self, version: int) -> Path:
        return self.version(version) / PACKAGE_MANIFEST

    def run(self, run_id: str) -> "RunLayout":
        return RunLayout(self.root, self.pipeline, run_id)

    @property
    def version_numbers(self) -> Path:
        """Tokens of the version numbers given out, so that none is given twice."""
        return self.versions / ".numbers"

    def kept_versions(self) -> list[int]:
        """Return the version numbers that are there whole, rising."""
        packages = self.versions.glob(f"*/{PACKAGE_MANIFEST}")
        return sorted(int(p.parent.name) for p in packages if p.parent.name.isdigit())

    @property
    def kept_in_words(self) -> str:
        """The kept version numbers, as messages list them."""
        return ", ".join(map(str, self.kept_versions())) or "none"

    def check_kept(self, version: int) -> None:
        """Raise NotFoundError unless a version is kept."""
        if version not in self.kept_versions():
            raise NotFoundError(
                f"{self.pipeline}: version {version} is not kept (kept: {self.kept_in_words})"
            )


@dataclass(frozen=True)
class RunLayout:
    """The folders of one run."""

    root: Path
    pipeline: str
    run_id: str

    @property
    def of_pipeline(self) -> PipelineLayout:
        return PipelineLayout(self.root, self.pipeline)

    @property
    def author(self) -> str:
        """What plans and rollouts call this run, when its trial changes the traffic."""
        return f"run {self.run_id}"

    @property
    def path(self) -> Path:
        return self.of_pipeline.runs / run_folder(self.run_id)

    @property
    def frozen_pipeline(self) -> Path:
        return self.path / "pipeline"

    @property
    def fingerprint(self) -> Path:
        return self.path / "fingerprint.json"

    @property
    def ended_by(self) -> Path:
        """Who ended a run without Airflow; removed when it is resumed."""
        return self.path / "ended-by.json"

    @property
    def started_as(self) -> Path:
        """What a run without Airflow was started as."""
        return self.path / "started-as.json"

    @property
    def approval(self) -> Path:
        """What a person answered to the question whether the version gets all traffic."""
        return self.path / "approval.json"

    @property
    def dead_letter(self) -> Path:
        """Bad rows of an ingestion that failed for them: its own folder is not published."""
        return self.path / "dead-letter.jsonl"

    def step(self, step: str) -> Path:
        if step not in STEPS:
            raise NotFoundError(f"step '{step}': unknown (known: {', '.join(STEPS)})")
        return self.path / step

    def result(self, step: str) -> Path:
        return self.step(step) / RESULT

    def attempts(self, step: str, replica: int = 0) -> Path:
        """Fencing tokens of a step, or of one of those that help its owner, replica 0."""
        return self.path / ".attempts" / (f"{step}.{replica}" if replica else step)

    def failure(self, step: str) -> Path:
        return self.attempts(step) / "failure.json"

    @property
    def hangs(self) -> Path:
        """Where the chief of a training names the processes that hang, one file each."""
        return self.attempts("train") / "hangs"

    @property
    def peers_secret(self) -> Path:
        """What the processes of a training prove to each other that they know."""
        return self.attempts("train") / "peers.secret"

    def process_lock(self, step: str) -> Path:
        """Locked while a process of the step lives on this machine; holds its process group."""
        return self.attempts(step) / "process.lock"

    @property
    def tracking_notes(self) -> Path:
        """Ids of MLflow's runs by step, and which attempt's result it was told (`<step>.told`)."""
        return self.path / ".tracking"

    def tracking(self, step: str) -> Path:
        """Where the MLflow run id of a step is noted; step `run` is the parent."""
        return self.tracking_notes / step

    # Artifacts that one component writes while another already reads them.

    @property
    def checkpoints(self) -> Path:
        return self.step("train") / "checkpoints"

    def checkpoint(self, step_number: int) -> Path:
        return self.checkpoints / f"{step_number:09d}"

    def checkpoint_manifest(self, step_number: int) -> Path:
        return self.checkpoint(step_number) / CHECKPOINT_MANIFEST

    @property
    def divergence(self) -> Path:
        """The batch that made a training's numbers infinite, and the weights that met it."""
        return self.step("train") / "diverged"

    @property
    def training_ended(self) -> Path:
        return self.step("train") / TRAINING_ENDED

    @property
    def training_start(self) -> Path:
        """Whose weights a training began with, if not with fresh ones by its config."""
        return self.step("train") / TRAINING_START

    @property
    def summaries(self) -> Path:
        """Event files for TensorBoard; timelines of the profiler go into its `plugins`."""
        return self.step("train") / "tensorboard"

    @property
    def verdict_summaries(self) -> Path:
        """The same of what evaluation measures."""
        return self.step("evaluate") / "tensorboard"

    @property
    def evaluation_queue(self) -> Path:
        """Leases and verdicts, where they are not in an object store."""
        return self.step("evaluate")

    @property
    def model_refused(self) -> Path:
        """Why evaluation has refused the model; training reads it and ends."""
        return self.step("evaluate") / "refused.json"

    def verdict(self, step_number: int) -> Path:
        return self.step("evaluate") / "verdicts" / f"{step_number:09d}.json"


def run_folder(run_id: str) -> str:
    """Return a folder name for a run id; one with odd characters gets a digest, so none collide."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", run_id)
    if safe == run_id and not safe.startswith("."):
        return safe
    return f"{safe.lstrip('.')}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
