"""The door to an artifact root: on a volume there is nothing to do, of an object store all is here.

A step fetches the run, claims its attempt, stages in, works in its folder, and publishes.
"""

import re
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from contract.errors import ConfigError
from contract.layout import PACKAGE_MANIFEST, PipelineLayout, RunLayout
from contract.records.package import PackageManifest, PackageRecord
from contract.records.record import Result
from contract.staging.bucket import Bucket
from contract.staging.exchange import Exchange
from contract.staging.scratch import is_object_root, scratch_of
from contract.staging.stored_run import StoredRun
from contract.steps import STEPS
from contract.storage import ORIGIN, Attempt, exclusive_lock, local_path

_PROBE = ".conditional-writes"
_VALIDATED = "validated"
_TIME = re.compile(r"\d{8}T\d{6}")  # in the ids of runs


class Root:
    """A root on a disk or a mounted volume: what was written there is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def verify(self) -> None:
        """Raise unless the root can be used; a disk is looked at elsewhere."""

    def packages(self, pipeline: str) -> str:
        """Return where others find a pipeline's versions: a path or a URI."""
        return str(PipelineLayout(self.path, pipeline).versions)

    def fetch(self, run: RunLayout) -> None:
        """Bring the records of a run that others have written."""

    def fetch_latest(self, pipeline: PipelineLayout, most: int) -> None:
        """Bring the records of a pipeline's latest runs."""

    def share_frozen(self, run: RunLayout) -> None:
        """Let others have the run's frozen config and code."""

    def share_failure(self, run: RunLayout, step: str) -> None:
        """Let others have the record of what a step failed with."""

    def share_end(self, run: RunLayout) -> None:
        """Let others have the record of who ended the run, or know that nobody has."""

    def is_whole(self, run: RunLayout, result: Result) -> bool:
        """Tell whether everything that a result names is there."""
        folder = run.step(result.step)
        return all((folder / artifact.path).exists() for artifact in result.artifacts.values())

    def stage_in(self, run: RunLayout, step: str) -> None:
        """Bring the files that a step reads."""

    def beside(
        self, run: RunLayout, step: str, attempt: Attempt, replica: int = 0
    ) -> AbstractContextManager[None]:
        """Return a context in which a step works beside another one."""
        del run, step, attempt, replica
        return nullcontext()

    def publish(self, run: RunLayout, result: Result, attempt: Attempt) -> None:
        """Write a step's result, which makes its files count."""
        del attempt
        result.write(run.result(result.step))

    def clean(self, run: RunLayout) -> None:
        """Remove local copies of a run that has ended."""


class ObjectRoot(Root):
    """A root in an object store; `path` is its scratch folder on this machine."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._uri = (path / ORIGIN).read_text(encoding="utf-8")

    def verify(self) -> None:
        """See `Root`: write an object, and try to overwrite it on condition that it is not there.

        Raises:
            ConfigError: If the store does not know conditional writes.
            StorageError: If it does not answer, or refuses access.
        """
        bucket = Bucket(self._uri)
        bucket.create(_PROBE, "first")
        if bucket.create(_PROBE, "second"):
            raise ConfigError(
                [
                    f"root '{self._uri}': the store overwrites what is there although asked not to "
                    "(If-None-Match); expected one with conditional writes, or a volume"
                ]
            )

    def packages(self, pipeline: str) -> str:
        """See `Root`."""
        return f"{self._uri}/{pipeline}/versions"

    def fetch(self, run: RunLayout) -> None:
        """See `Root`."""
        with _locked(run):
            self._stored(run).fetch()

    def fetch_latest(self, pipeline: PipelineLayout, most: int) -> None:
        """See `Root`; the time in a run's id tells which are the latest."""
        names = self._bucket(pipeline).names("runs")
        for name in sorted(names, key=_time_of, reverse=True)[:most]:
            self.fetch(pipeline.run(name))

    def share_frozen(self, run: RunLayout) -> None:
        """See `Root`."""
        with _locked(run):
            self._stored(run).share_frozen()

    def share_failure(self, run: RunLayout, step: str) -> None:
        """See `Root`."""
        self._stored(run).share_failure(step)

    def share_end(self, run: RunLayout) -> None:
        """See `Root`."""
        self._stored(run).share_end()

    def is_whole(self, run: RunLayout, result: Result) -> bool:
        """See `Root`: in the store a result is one object with the list of its files."""
        del run, result
        return True

    def stage_in(self, run: RunLayout, step: str) -> None:
        """See `Root`."""
        stored, pipeline = self._stored(run), run.of_pipeline
        with _locked(run):
            for upstream in (*STEPS[step].reads, *STEPS[step].looks_into):
                stored.stage_in(upstream)
            if step == "validate":
                self._stage_last_run(run)
                stored.bucket.copy_down("schema.json", pipeline.data_schema)
            if step == "package":
                _stage_versions(stored)

    def beside(
        self, run: RunLayout, step: str, attempt: Attempt, replica: int = 0
    ) -> AbstractContextManager[None]:
        """See `Root`."""
        if step not in ("train", "evaluate"):
            return nullcontext()
        exchange = Exchange(self._stored(run), attempt, is_training=step == "train")
        if not replica:
            exchange.begin()
        exchange.exchange()
        return exchange.running()

    def publish(self, run: RunLayout, result: Result, attempt: Attempt) -> None:
        """See `Root`.

        Raises:
            ConflictError: If a later attempt has taken over: then nobody reads what was published.
        """
        stored = self._stored(run)
        if result.step == "package":
            _publish_version(stored, result.detail_as(PackageRecord).version)
        if result.step == "validate":
            schema = run.of_pipeline.data_schema.read_text(encoding="utf-8")
            stored.bucket.write("schema.json", schema)
        tree = stored.upload(result.step)
        with _locked(run):
            attempt.check()
            stored.publish(result, tree)
            attempt.check()
            result.write(run.result(result.step))
        if result.step == "validate":
            stored.bucket.write(f"{_VALIDATED}/{run.path.name}", run.run_id)

    def clean(self, run: RunLayout) -> None:
        """See `Root`: the records stay, and statistics, which the next run is compared with."""
        for step in STEPS.keys() - {"validate"}:
            if run.result(step).exists():
                for path in run.step(step).iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
                    elif path != run.result(step):
                        path.unlink()

    def _stage_last_run(self, run: RunLayout) -> None:
        """Bring what `validate` compares with: the latest other run that it has passed."""
        bucket = self._bucket(run.of_pipeline)
        found = bucket.found(_VALIDATED)
        others = sorted(found.keys() - {run.path.name}, key=lambda name: found[name], reverse=True)
        for name in others[:1]:
            last = self._stored(run.of_pipeline.run(bucket.read(f"{_VALIDATED}/{name}") or name))
            last.fetch()
            if last.run.result("validate").exists():
                last.stage_in("validate")

    def _stored(self, run: RunLayout) -> StoredRun:
        return StoredRun(run, self._bucket(run.of_pipeline))

    def _bucket(self, pipeline: PipelineLayout) -> Bucket:
        return Bucket(f"{self._uri}/{pipeline.pipeline}")


def open_root(root: str) -> Root:
    """Return the root of a URI, of a path, or of the scratch folder of one in an object store.

    Raises:
        ConfigError: If its package is not installed.
    """
    path = scratch_of(root) if is_object_root(root) else local_path(root)
    return ObjectRoot(path) if (path / ORIGIN).is_file() else Root(path)


def _locked(run: RunLayout) -> AbstractContextManager[None]:
    """Let one process of this machine at a time change the run's copies."""
    return exclusive_lock(run.of_pipeline.path / ".staging" / f"{run.path.name}.lock")


# --- packages -----------------------------------------------------------------------------------


def _stage_versions(stored: StoredRun) -> None:
    """Bring the manifests of all versions, and the whole of one that this run has made before."""
    pipeline = stored.run.of_pipeline
    files = stored.bucket.found("versions")
    for name in files:
        number, _, file = name.partition("/")
        if file != PACKAGE_MANIFEST or not number.isdigit():
            continue
        manifest = pipeline.package_manifest(int(number))
        stored.bucket.copy_down(f"versions/{name}", manifest)
        if PackageManifest.read(manifest).provenance.run_id == stored.run.run_id:
            own = (name for name in files if name.startswith(f"{number}/"))
            whole = {f"versions/{name}": pipeline.versions / name for name in own}
            for path in whole.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            stored.bucket.download(whole)


def _publish_version(stored: StoredRun, version: int) -> None:
    """Write a package whose number is this run's; its manifest comes last."""
    folder = stored.run.of_pipeline.version(version)
    files = {f"versions/{version}/{p.relative_to(folder).as_posix()}": p for p in folder.rglob("*")}
    manifest = f"versions/{version}/{PACKAGE_MANIFEST}"
    stored.bucket.upload({k: p for k, p in files.items() if p.is_file() and k != manifest})
    stored.bucket.upload({manifest: files[manifest]})


def _time_of(name: str) -> str:
    found = _TIME.search(name)
    return found[0] if found else ""
