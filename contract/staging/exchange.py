"""What `train` and `evaluate` tell each other while both work, by way of the object store.

A thread of each of them looks once a second. The trainer's uploads checkpoints and `ended.json`,
and fetches verdicts and `refused.json`; the evaluator's does the reverse. Verdicts themselves are
written by the evaluation queue. A checkpoint is visible when all of it is there.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from contract.errors import ConflictError, NotFoundError, SlipwayError
from contract.layout import CHECKPOINT_MANIFEST
from contract.staging.stored_run import StoredRun
from contract.staging.trees import StoredTree, upload
from contract.storage import Attempt, digest_file, exclusive_lock, write_atomically

_LOOK_SECONDS = 1.0
_CHECKPOINTS = "checkpoints"

log = logging.getLogger("slipway")


class Exchange:
    """One side of the exchange: of the trainer if `is_training`, else of an evaluator."""

    def __init__(self, stored: StoredRun, attempt: Attempt, *, is_training: bool) -> None:
        self._stored = stored
        self._attempt = attempt
        self._is_training = is_training
        self._manifests: dict[int, str] = {}  # digests, of checkpoints that are in the store
        self._trees: dict[int, StoredTree] = {}
        self._fetched: set[int] = set()
        ended, refused = stored.run.training_ended, stored.run.model_refused
        self._own, self._theirs = (ended, refused) if is_training else (refused, ended)
        self._told = ""

    def begin(self) -> None:
        """Remove what an earlier attempt told, and bring a trainer the checkpoints that count."""
        with self._locked():
            self._stored.bucket.remove([self._stored.at(self._own)])
            self._own.unlink(missing_ok=True)
        if self._is_training:
            self._stage_checkpoints()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Exchange while the block runs; afterwards everything is uploaded.

        Raises:
            StorageError: If the store did not take it.
            ConflictError: If a later attempt has taken over.
        """
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            over.set()
            thread.join()
            try:
                self.exchange()
            except SlipwayError as error:
                log.warning("not uploaded: %s", error)
            raise
        over.set()
        thread.join()
        self.exchange()

    def exchange(self) -> None:
        """Upload what is new here, and fetch what is new there."""
        said = _text(self._own)  # before checkpoints: none can come after the word that it ended
        if self._is_training:
            self._upload_checkpoints()
            self._fetch_verdicts()
        else:
            self._fetch_checkpoints()
        if said and said != self._told:
            self._attempt.check()
            self._stored.bucket.write(self._stored.at(self._own), said)
            self._told = said
        with self._locked():
            heard = self._stored.bucket.read(self._stored.at(self._theirs))
            if heard and not self._theirs.exists():
                write_atomically(self._theirs, heard)

    def _look(self, over: threading.Event) -> None:
        complaint = ""
        while not over.wait(_LOOK_SECONDS):
            try:
                self.exchange()
                complaint = ""
            except ConflictError:
                return  # the step itself finds out, and says so
            except SlipwayError as error:
                if str(error) != complaint:
                    log.warning("the object store is tried again: %s", error)
                complaint = str(error)

    # --- checkpoints ----------------------------------------------------------------------------

    def _stage_checkpoints(self) -> None:
        """Make the local checkpoints those of the store.

        Where the attempt before ran on this machine, those stay that it had not uploaded yet.
        """
        run, documents = self._stored.run, self._listed()
        for step in documents:
            with self._locked():
                self._stored.fetch_tree(self._document(step), run.checkpoint(step))
            self._trees[step] = StoredTree.of(run.checkpoint(step))
            self._manifests[step] = digest_file(run.checkpoint_manifest(step))
        before = self._attempt.folder / str(self._attempt.number - 1)
        if not _text(before):  # it ran elsewhere, and continued from the store
            for step in set(self._here()) - documents:
                run.checkpoint_manifest(step).unlink(missing_ok=True)

    def _upload_checkpoints(self) -> None:
        run, here = self._stored.run, self._here()
        for step, manifest in sorted(here.items()):
            if self._manifests.get(step) == manifest:
                continue
            try:
                tree = StoredTree.of(run.checkpoint(step))
                upload(self._stored.bucket, self._stored.objects, tree, run.checkpoint(step))
            except (FileNotFoundError, NotFoundError):
                continue  # removed by the keep policy meanwhile
            self._attempt.check()
            self._stored.bucket.write(self._document(step), tree.model_dump_json())
            self._manifests[step], self._trees[step] = manifest, tree
        if gone := self._manifests.keys() - here.keys():
            self._remove(gone)

    def _remove(self, steps: set[int]) -> None:
        """Remove from the store what the keep policy has removed here."""
        self._attempt.check()
        gone = [self._trees.pop(step).digests for step in steps]
        used = frozenset[str]().union(*(tree.digests for tree in self._trees.values()))
        unused = frozenset[str]().union(*gone) - used
        objects = (f"{self._stored.objects}/{digest.removeprefix('sha256:')}" for digest in unused)
        self._stored.bucket.remove([*map(self._document, steps), *objects])
        for step in steps:
            del self._manifests[step]

    def _fetch_checkpoints(self) -> None:
        run, listed = self._stored.run, self._listed()
        judged = self._judged()
        for step in sorted(listed - judged.keys() - self._here().keys()):
            with self._locked():
                if run.checkpoint_manifest(step).exists():
                    continue  # by the trainer of this machine, meanwhile
                self._stored.fetch_tree(self._document(step), run.checkpoint(step))
            self._fetched.add(step)
        for step in self._fetched - listed:
            run.checkpoint_manifest(step).unlink(missing_ok=True)
            self._fetched.discard(step)

    def _fetch_verdicts(self) -> None:
        for step, key in self._judged().items():
            path = self._stored.run.verdict(step)
            if not path.exists() and (text := self._stored.bucket.read(key)):
                write_atomically(path, text)

    # --- lists ----------------------------------------------------------------------------------

    def _here(self) -> dict[int, str]:
        """Return the digest of each local checkpoint's manifest, by step."""
        paths = self._stored.run.checkpoints.glob(f"[0-9]*/{CHECKPOINT_MANIFEST}")
        found = {}
        for path in paths:
            try:
                found[int(path.parent.name)] = digest_file(path)
            except FileNotFoundError:
                continue
        return found

    def _listed(self) -> set[int]:
        names = self._stored.bucket.names(self._stored.published(_CHECKPOINTS))
        return {int(name.removesuffix(".json")) for name in names}

    def _judged(self) -> dict[int, str]:
        folder = self._stored.at(self._stored.run.verdict(0).parent)
        names = self._stored.bucket.names(folder)
        return {int(name.removesuffix(".json")): f"{folder}/{name}" for name in names}

    def _document(self, step: int) -> str:
        return self._stored.published(f"{_CHECKPOINTS}/{step:09d}.json")

    def _locked(self) -> AbstractContextManager[None]:
        """Let one side of this machine at a time change what both read."""
        return exclusive_lock(self._stored.run.path / ".exchange.lock")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
