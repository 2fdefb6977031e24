"""One run in an object store: its tokens, its published results, and their files."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field

from contract.errors import ConflictError, DataError, SlipwayError
from contract.layout import RESULT, RunLayout
from contract.records.record import Failure, Result
from contract.staging.bucket import Bucket
from contract.staging.trees import StoredTree, download, upload
from contract.steps import STEPS
from contract.storage import write_atomically

DocumentT = TypeVar("DocumentT", bound=BaseModel)

_PIPELINE = "pipeline.json"


class Publication(StoredTree):
    """What a step has published: its result and its files, in one object."""

    result: Result = Field(description="The result, which is nowhere else.")


class StoredRun:
    """A run in an object store, and its folder in the scratch folder."""

    def __init__(self, run: RunLayout, bucket: Bucket) -> None:
        """`bucket` is at the folder of the pipeline."""
        self.run = run
        self.bucket = bucket
        self._place = f"runs/{run.path.name}"

    def at(self, path: Path) -> str:
        """Return the key of what has the same place as a path of the run."""
        return f"{self._place}/{path.relative_to(self.run.path).as_posix()}"

    @property
    def objects(self) -> str:
        """The prefix of the contents of all files."""
        return f"{self._place}/.objects"

    def published(self, name: str) -> str:
        """Return the key of a document that makes files visible."""
        return f"{self._place}/.published/{name}"

    # --- records --------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Make local tokens, records of ends and frozen pipeline equal to those of the store."""
        tokens = self.bucket.found(f"{self._place}/.attempts")
        documents = self.bucket.found(f"{self._place}/.published")
        if _PIPELINE in documents:
            self.fetch_tree(self.published(_PIPELINE), self.run.frozen_pipeline)
        self.bucket.copy_down(self.at(self.run.ended_by), self.run.ended_by)
        for name, written_at in tokens.items():
            if name.rpartition("/")[2].isdigit():
                _note(self.run.path / ".attempts" / name, written_at)
        for step in STEPS:
            if f"{step}/{self.run.failure(step).name}" in tokens:
                self._fetch_failure(step)
            newest = _newest(name for name in tokens if name.startswith(f"{step}/"))
            if (name := f"{step}/{newest}.json") in documents:
                self._fetch_result(step, newest, documents[name])
            else:
                self.run.result(step).unlink(missing_ok=True)

    def share_frozen(self) -> None:
        """Publish the frozen pipeline, unless that is there already.

        Raises:
            ConflictError: If another process has frozen the run with other code or config.
        """
        key = self.published(_PIPELINE)
        if self.bucket.read(key) is not None:
            return
        tree = StoredTree.of(self.run.frozen_pipeline)
        upload(self.bucket, self.objects, tree, self.run.frozen_pipeline)
        if not self.bucket.create(key, tree.model_dump_json()):
            self.fetch_tree(key, self.run.frozen_pipeline)
            raise ConflictError(
                f"run '{self.run.run_id}': another process has frozen it with other code or "
                "config; start a new run"
            )

    def share_failure(self, step: str) -> None:
        """Write the record of what a step failed with."""
        path = self.run.failure(step)
        self.bucket.write(self.at(path), path.read_text(encoding="utf-8"))

    def share_end(self) -> None:
        """Write the record of who ended the run, or remove it if there is none here."""
        path = self.run.ended_by
        if path.exists():
            self.bucket.write(self.at(path), path.read_text(encoding="utf-8"))
        else:
            self.bucket.remove([self.at(path)])

    def publication(self, step: str) -> Publication:
        """Return what a step has published, whose result is here.

        Raises:
            DataError: If it is not readable.
        """
        attempt = Result.read(self.run.result(step)).attempt
        key = self.published(f"{step}/{attempt}.json")
        return self._document(Publication, key)

    # --- files ----------------------------------------------------------------------------------

    def stage_in(self, step: str) -> None:
        """Make the local files of a step equal to those that it has published."""
        found = self.publication(step)
        text = found.result.model_dump_json(indent=2)
        download(self.bucket, self.objects, found, self.run.step(step), {RESULT: text})

    def fetch_tree(self, key: str, folder: Path) -> None:
        """Make a local folder equal to what a document describes."""
        download(self.bucket, self.objects, self._document(StoredTree, key), folder, {})

    def upload(self, step: str) -> StoredTree:
        """Write a step's files, which nobody sees yet, and return what they are."""
        folder = self.run.step(step)
        tree = StoredTree.of(folder)
        upload(self.bucket, self.objects, tree, folder)
        return tree

    def publish(self, result: Result, tree: StoredTree) -> None:
        """Write the document that makes a step's result and its files visible.

        Raises:
            ConflictError: If there is one of this attempt already.
        """
        document = Publication(files=tree.files, empty=tree.empty, result=result)
        key = self.published(f"{result.step}/{result.attempt}.json")
        if not self.bucket.create(key, document.model_dump_json()):
            raise ConflictError(f"{key}: there is another result of this attempt")

    # --- inside ---------------------------------------------------------------------------------

    def _fetch_result(self, step: str, attempt: int, written_at: float) -> None:
        path = self.run.result(step)
        key = self.published(f"{step}/{attempt}.json")
        text = self._document(Publication, key).result.model_dump_json(indent=2)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)
        _set_time(path, written_at)

    def _fetch_failure(self, step: str) -> None:
        """Bring the record of a failure, unless a later attempt has left one here only."""
        path = self.run.failure(step)
        found = self._document(Failure, self.at(path))
        with suppress(SlipwayError):
            if Failure.read(path).attempt >= found.attempt:
                return
        found.write(path)

    def _document(self, kind: type[DocumentT], key: str) -> DocumentT:
        try:
            return kind.model_validate_json(self.bucket.read(key) or "", strict=False)
        except ValueError as error:
            raise DataError(f"{key}: unreadable: {error}") from error


def _newest(tokens: Iterable[str]) -> int:
    numbers = (token.rpartition("/")[2] for token in tokens)
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _note(path: Path, written_at: float) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    _set_time(path, written_at)


def _set_time(path: Path, moment: float) -> None:
    """Give a copy the time of its original: some decisions compare which came first."""
    os.utime(path, (moment, moment))
