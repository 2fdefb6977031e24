"""Who owns a job in a cluster: one object by name, and on it the fencing token of its owner.

Creating the object twice is a conflict, which means "adopt": take it over with a higher token.
Every change is made on condition that the object is the one last seen: an overtaken attempt
learns it by a conflict, changes nothing more and deletes nothing.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from contract.clients.cluster import Cluster, Manifest
from contract.errors import ConflictError, NotFoundError
from launching.cluster.manifests import ATTEMPT, GENERATION, TASK
from launching.cluster.removal import delete_exactly

log = logging.getLogger(__name__)

SEEN, STATE = "slipway/seen", "slipway/state"
_LOOK_AGAIN_SECONDS = 0.5
_PUT_BACK = frozenset({"services"})  # what stands for a job and does nothing by itself
_SETTLE_SECONDS = 5.0  # who deletes an object to take its place makes the next one in this time


@dataclass
class Claim:
    """The object that stands for a job (a Service, a TFJob, ...), held with a fencing token.

    Attributes:
        labels: Of the task; `generation` is the task's, `attempt` the token.
    """

    cluster: Cluster
    resource: str
    labels: Mapping[str, str]
    generation: int
    attempt: int
    held: Manifest = field(default_factory=dict)
    is_adopted: bool = False
    seen_before: str = ""
    _wanted: Manifest = field(default_factory=dict)
    _released: ClassVar[set[str]] = set()  # uids; also by another Claim of this process

    async def take(self, body: Manifest) -> None:
        """Create the object, or adopt it; remove what is left of earlier generations.

        Raises:
            ConflictError: If a later attempt holds it.
        """
        await self._remove_earlier_generations()
        marked = self._wanted = self._marked(body)
        while True:
            try:
                self.held = await self.cluster.create(self.resource, marked)
                return
            except ConflictError:
                if await self._adopt(body["metadata"]["name"]):
                    return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)  # the old one is being deleted

    async def save(self, state: Mapping[str, Any] | None = None) -> None:
        """Record that the job has a driver, and what must survive it.

        Raises:
            ConflictError: If a later attempt has taken over.
        """
        annotations = {SEEN: datetime.now(UTC).isoformat()}
        if state is not None:
            annotations[STATE] = json.dumps(state)
        await self._change(annotations)

    async def release(self) -> bool:
        """Delete the object, and with it all that it owns; return whether it was still ours."""
        name = self.held["metadata"]["name"]
        while True:
            try:
                found = await self.cluster.get(self.resource, name)
            except NotFoundError:
                return True
            metadata = found["metadata"]
            if metadata["uid"] != self.held["metadata"]["uid"] or _attempt(found) != self.attempt:
                return False
            self._released.add(metadata["uid"])
            try:
                background = {"propagationPolicy": "Background"}
                await delete_exactly(self.cluster, self.resource, found, **background)
                return True
            except ConflictError:  # changed since: perhaps taken over
                continue

    @property
    def state(self) -> dict[str, Any]:
        """What an earlier owner has saved."""
        annotations = self.held["metadata"].get("annotations", {})
        return dict(json.loads(annotations.get(STATE, "{}")))

    async def find(self, name: str) -> bool:
        """Tell whether the object exists and is ours; for a `release` without a claim."""
        try:
            self.held = await self.cluster.get(self.resource, name)
        except NotFoundError:
            return False
        return _attempt(self.held) == self.attempt

    # --- inside ---

    def _marked(self, body: Manifest) -> Manifest:
        metadata = body["metadata"]
        labels = {**metadata.get("labels", {}), **self.labels, GENERATION: str(self.generation)}
        marks = {ATTEMPT: str(self.attempt), SEEN: datetime.now(UTC).isoformat()}
        annotations = {**metadata.get("annotations", {}), **marks}
        return {**body, "metadata": {**metadata, "labels": labels, "annotations": annotations}}

    async def _adopt(self, name: str) -> bool:
        try:
            self.held = await self.cluster.get(self.resource, name)
        except NotFoundError:
            return False
        metadata = self.held["metadata"]
        if metadata.get("deletionTimestamp"):
            return False
        self._check_token(self.held)
        self.seen_before = metadata.get("annotations", {}).get(SEEN, "")
        self.is_adopted = True
        await self._change({ATTEMPT: str(self.attempt)})
        return True

    async def _change(self, annotations: Mapping[str, str]) -> None:
        name = self.held["metadata"]["name"]
        while True:
            version = self.held["metadata"]["resourceVersion"]
            body = {"metadata": {"resourceVersion": version, "annotations": dict(annotations)}}
            try:
                self.held = await self.cluster.patch(self.resource, name, body)
                return
            except ConflictError:  # a controller's change, or a later attempt's
                self.held = await self.cluster.get(self.resource, name)
                self._check_token(self.held)
            except NotFoundError:
                if not self._can_put_back():
                    raise
                await self._put_back(name)

    def _can_put_back(self) -> bool:
        is_known = self.resource in _PUT_BACK and bool(self._wanted)
        return is_known and self.held["metadata"]["uid"] not in self._released

    async def _put_back(self, name: str) -> None:
        """Create the object again that somebody has deleted, with what it said.

        Raises:
            ConflictError: If a later generation or attempt has taken over.
        """
        await asyncio.sleep(_SETTLE_SECONDS)
        found = await self.cluster.list(self.resource, {TASK: self.labels[TASK]})
        for item in found.get("items", ()):
            if int(item["metadata"]["labels"].get(GENERATION, 0)) > self.generation:
                raise ConflictError(f"job {name}: its task was cleared; it changes nothing more")
        said = self.held["metadata"].get("annotations", {})
        body = {**self._wanted, "metadata": {**self._wanted["metadata"], "annotations": said}}
        try:
            self.held = await self.cluster.create(self.resource, body)
            log.warning("job %s: its Service was deleted by somebody and is created again", name)
        except ConflictError:
            self.held = await self.cluster.get(self.resource, name)
            self._check_token(self.held)

    def _check_token(self, found: Manifest) -> None:
        theirs = _attempt(found)
        if theirs > self.attempt:
            name = found["metadata"]["name"]
            raise ConflictError(
                f"job {name}: attempt {self.attempt} was overtaken by attempt {theirs}; "
                "it changes and deletes nothing"
            )

    async def _remove_earlier_generations(self) -> None:
        found = await self.cluster.list(self.resource, {TASK: self.labels[TASK]})
        for item in found.get("items", ()):
            metadata = item["metadata"]
            if int(metadata["labels"].get(GENERATION, 0)) < self.generation:
                options = {"propagationPolicy": "Background"}
                await self.cluster.delete(self.resource, metadata["name"], options)


def _attempt(found: Manifest) -> int:
    return int(found["metadata"].get("annotations", {}).get(ATTEMPT, 0))
